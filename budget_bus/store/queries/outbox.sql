-- name: put
-- $1 topics, $2 keys, $3 values
INSERT INTO outbox (topic, key, value) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[]);

-- name: put_with_headers
-- One row with its headers.  $1 topic, $2 key, $3 value, $4 header names, $5 header values
INSERT INTO outbox (topic, key, value, header_names, header_values) VALUES ($1, $2, $3, $4, $5);

-- name: only_relay
-- One relay at a time; held until its connection closes.  $1 lock
SELECT pg_try_advisory_lock($1);

-- name: next
-- $1 how many
SELECT outbox_id, topic, key, value, header_names, header_values, created_at
FROM outbox ORDER BY outbox_id LIMIT $1;

-- name: published
-- $1 outbox_ids
DELETE FROM outbox WHERE outbox_id = ANY ($1);

-- name: waiting
SELECT count(*) FROM outbox;

-- name: raise_alerts
-- Once per (budget, window, threshold, limit version, kind): only the rows that are new come back.
-- $1 alert_ids, $2 budget_ids, $3 context_ids, $4 window_starts, $5 threshold_percents, $6 limit_versions, $7 kinds,
-- $8 payloads, $9 raised_at
INSERT INTO alert (alert_id, budget_id, context_id, window_start, threshold_percent, limit_version, kind, payload,
                   raised_at)
SELECT u.*, $9
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::int[], $6::int[], $7::text[], $8::jsonb[]) AS u
ON CONFLICT (budget_id, context_id, window_start, threshold_percent, limit_version, kind) DO NOTHING
RETURNING alert_id;
