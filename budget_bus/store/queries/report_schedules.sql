-- name: add
-- $1 schedule_id, $2 name, $3 every, $4 at_time, $5 timezone, $6 query, $7 file_name, $8 webhook, $9 due_at, $10 actor,
-- $11 how many there may be at most
INSERT INTO report_schedule (schedule_id, name, every, at_time, timezone, query, file_name, webhook, due_at, attempt_at,
    actor)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10 WHERE (SELECT count(*) FROM report_schedule) < $11
RETURNING schedule_id, name, every, at_time, timezone, query, file_name, webhook, due_at, attempt_at, attempts,
    last_due_at, last_error;

-- name: all
SELECT schedule_id, name, every, at_time, timezone, query, file_name, webhook, due_at, attempt_at, attempts,
    last_due_at, last_error
FROM report_schedule ORDER BY name, created_at, schedule_id;

-- name: remove
-- $1 schedule_id
DELETE FROM report_schedule WHERE schedule_id = $1;

-- name: lock_due
-- One that is due, unless another bookkeeper has it in hand.  $1 now
SELECT schedule_id, name, every, at_time, timezone, query, file_name, webhook, due_at, attempt_at, attempts,
    last_due_at, last_error
FROM report_schedule WHERE attempt_at <= $1 ORDER BY attempt_at, schedule_id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: delivered
-- $1 schedule_id, $2 the next due_at
UPDATE report_schedule
SET last_due_at = due_at, due_at = $2, attempt_at = $2, attempts = 0, last_error = NULL
WHERE schedule_id = $1;

-- name: failed
-- $1 schedule_id, $2 why, $3 when to try again
UPDATE report_schedule SET attempts = attempts + 1, last_error = $2, attempt_at = $3 WHERE schedule_id = $1;
