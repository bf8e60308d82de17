-- name: recorded
-- What each component recorded for whole buckets of [$1, $2), and when its last event there occurred and was read.
WITH used AS (
    SELECT component, sum(requests) AS requests, sum(unpriced_requests) AS unpriced_requests,
        min(bucket_start) AS first_bucket, max(bucket_start) AS last_bucket
    FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2
    GROUP BY component
)
SELECT used.*, newest.*
FROM used CROSS JOIN LATERAL (
    SELECT max(occurred_at) AS last_occurred_at, max(recorded_at) AS last_recorded_at FROM ledger
    WHERE occurred_at >= last_bucket AND occurred_at < last_bucket + interval '15 minutes'
        AND ledger.component = used.component
) AS newest;

-- name: unpriced
-- The models that have no price, by component, for whole buckets of [$1, $2).
SELECT component, provider, model, sum(unpriced_requests) AS requests
FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2
GROUP BY component, provider, model HAVING sum(unpriced_requests) > 0
ORDER BY component, requests DESC, provider, model;

-- name: asked
-- Checks that were decided in [$1, $2).
SELECT component, count(*) AS checks, count(*) FILTER (WHERE action = 'deny') AS denied, max(decided_at) AS last_check_at
FROM decision
WHERE action <> 'released' AND component IS NOT NULL AND decided_at >= $1 AND decided_at < $2
GROUP BY component;

-- name: held
-- What became of the holds that were placed in [$1, $2).
SELECT component, state, count(*) AS holds FROM hold
WHERE decided_at >= $1 AND decided_at < $2
GROUP BY component, state;
