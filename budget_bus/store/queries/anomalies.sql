-- name: alone
-- One watcher at a time, until its transaction ends.  $1 lock
SELECT pg_try_advisory_xact_lock($1);

-- name: buckets
-- What each closed quarter of an hour of [$1, $2) had, by component and model.  $3 currency
SELECT bucket_start, component, provider, model, sum(requests)::bigint AS requests,
    coalesce(sum(cost_nanos) FILTER (WHERE currency = $3), 0)::bigint AS cost_nanos
FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2 GROUP BY 1, 2, 3, 4;

-- name: paces
-- How many calls of a context within a quarter of an hour 99.5 % stay within, by component and model, over [$1, $2);
-- of those with at least $3 such quarters.
SELECT component, provider, model, percentile_disc(0.995) WITHIN GROUP (ORDER BY calls)::bigint AS calls
FROM (
    SELECT component, provider, model, context_id, bucket_start, sum(requests) AS calls
    FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2 AND context_id <> '' GROUP BY 1, 2, 3, 4, 5
) AS quarters
GROUP BY 1, 2, 3 HAVING count(*) >= $3;

-- name: recent
-- What was used after $1, by minute, component and model.  $2 currency
SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, component, provider, model, count(*) AS requests,
    coalesce(sum(cost_nanos) FILTER (WHERE currency = $2), 0)::bigint AS cost_nanos
FROM ledger WHERE occurred_at > $1 GROUP BY 1, 2, 3, 4;

-- name: turns
-- The calls after $1 of contexts that made at least $2 and spent at least $3, in their order; at most $5 contexts, the
-- dearest.  $4 currency
WITH busy AS (
    SELECT context_id FROM ledger WHERE occurred_at > $1 AND context_id IS NOT NULL AND currency = $4
    GROUP BY context_id HAVING count(*) >= $2 AND coalesce(sum(cost_nanos), 0) >= $3
    ORDER BY sum(cost_nanos) DESC LIMIT $5
)
SELECT l.context_id, l.component, l.occurred_at, l.provider, l.model, l.input_tokens,
    coalesce(l.cost_nanos, 0) AS cost_nanos
FROM busy b JOIN ledger l ON l.context_id = b.context_id
WHERE l.occurred_at > $1 AND l.currency = $4
ORDER BY l.context_id, l.component, l.occurred_at, l.part, l.record_offset;

-- name: usage_read_to
-- Up to when all usage is in the books.  $1 usage topic
SELECT min(watermark_at) FROM bus_offset WHERE topic = $1;

-- name: episodes
-- The newest episode of each kind and scope that is not over, or was seen after $1; with the end of its pause.
SELECT DISTINCT ON (a.kind, md5(a.scope::text)) a.anomaly_id, a.kind, a.scope, a.at, a.since, a.last_seen_at,
    a.ended_at, a.pause_id, coalesce(p.ended_at, p.until) AS pause_ends
FROM anomaly a LEFT JOIN pause p USING (pause_id)
WHERE a.ended_at IS NULL OR a.last_seen_at > $1
ORDER BY a.kind, md5(a.scope::text), a.at DESC;

-- name: seen
-- $1 anomaly_ids, $2 when
UPDATE anomaly SET last_seen_at = $2 WHERE anomaly_id = ANY ($1);

-- name: over
-- $1 anomaly_ids, $2 when
UPDATE anomaly SET ended_at = $2 WHERE anomaly_id = ANY ($1);

-- name: begin
-- Once per kind and scope while an episode is not over; returns nothing if it was told before.
-- $1 anomaly_id, $2 kind, $3 scope, $4 at, $5 since, $6 observed, $7 expected, $8 unit, $9 currency, $10 reason,
-- $11 pause_id or null
INSERT INTO anomaly (anomaly_id, kind, scope, at, since, observed, expected, unit, currency, reason, pause_id,
    last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $4)
ON CONFLICT (kind, md5(scope::text)) WHERE ended_at IS NULL DO NOTHING
RETURNING anomaly_id;

-- name: spans
-- When something was wrong with what is spent, at most the first day of each.  $1 since
SELECT scope, since, least(coalesce(ended_at, last_seen_at), since + interval '1 day') AS until
FROM anomaly WHERE kind = 'velocity' AND at >= $1;

-- name: page
-- Newest first.  $1 kinds or null, $2 whether they last, or null for both, $3 and $4 [since, until) or nulls,
-- $5 and $6 before which one, or null, $7 how many, $8 components or null
SELECT * FROM anomaly
WHERE ($1::text[] IS NULL OR kind = ANY ($1)) AND ($2::boolean IS NULL OR (ended_at IS NULL) = $2)
    AND at >= coalesce($3::timestamptz, '-infinity') AND at < coalesce($4::timestamptz, 'infinity')
    AND ($5::timestamptz IS NULL OR (at, anomaly_id) < ($5, $6::uuid))
    AND ($8::text[] IS NULL OR scope ->> 'component' = ANY ($8))
ORDER BY at DESC, anomaly_id DESC LIMIT $7;
