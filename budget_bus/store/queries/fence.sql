-- name: take
-- A consumer takes a partition: a new epoch fences whoever had it. Waits for the old owner's transaction in flight.
-- $1 topic, $2 part, $3 owner_id, $4 the offset to begin at if nobody ever read this partition
INSERT INTO bus_offset AS b (topic, part, next_offset, owner_epoch, owner_id, watermark_at)
VALUES ($1, $2, $4, 1, $3, 'epoch')  -- nothing is in the books yet
ON CONFLICT (topic, part) DO UPDATE SET owner_epoch = b.owner_epoch + 1, owner_id = $3
RETURNING owner_epoch, next_offset;

-- name: enter
-- $1 topic, $2 parts, $3 from offsets, $4 to offsets, $5 epochs, $6 watermarks, $7 catalogue lock, $8 usage topic
SELECT moved, version, usage_read_to FROM enter_books($1, $2, $3, $4, $5, $6, $7, $8);

-- name: where_am_i
-- After a failed compare-and-set: what the row says.  $1 topic, $2 parts
SELECT part, next_offset, owner_epoch FROM bus_offset WHERE topic = $1 AND part = ANY ($2);

-- name: watermark
-- An idle partition is read to its end: its watermark moves with the clock.  $1 topic, $2 parts, $3 epochs, $4 watermark
UPDATE bus_offset b SET watermark_at = greatest(b.watermark_at, $4), seen_at = clock_timestamp()
FROM unnest($2::int[], $3::bigint[]) AS u (part, epoch)
WHERE b.topic = $1 AND b.part = u.part AND b.owner_epoch = u.epoch;

-- name: rewind
-- The log is shorter than what we have read (a broker that lost data, a topic made anew).  $1 topic, $2 part, $3 epoch, $4 offset
UPDATE bus_offset SET next_offset = $4 WHERE topic = $1 AND part = $2 AND owner_epoch = $3;

-- name: forget
-- Partitions that the topic does not have any more, unless somebody is at work on one.
-- $1 topic, $2 how many partitions it has
DELETE FROM bus_offset WHERE topic = $1 AND part >= $2 AND seen_at < clock_timestamp() - interval '10 seconds';

-- name: lock_catalogue
-- Every batch in flight ends first, none begins until this transaction ends.  $1 catalogue lock
SELECT pg_advisory_xact_lock($1);

-- name: patience
-- Wait for no lock of this transaction for longer.  $1 how long, with its unit
SELECT set_config('lock_timeout', $1, true);
