-- name: progress
-- How far each partition is applied.  $1 topic
SELECT part, next_offset, watermark_at FROM bus_offset WHERE topic = $1;

-- name: hours_until
-- Up to when rollups are summed up by hours.
SELECT hours_until FROM rollup_folded;

-- name: recorded
-- $1 event_ids
SELECT event_id, digest, topic, part, record_offset, late, occurred_at, input_tokens, output_tokens, cost_nanos,
    input_cost_nanos, output_cost_nanos, currency, price_status
FROM ledger WHERE event_id = ANY ($1);

-- name: usage
-- Sums over [$1, $2) and [$5, $6), read from the ledger, over the rollups of [$2, $3) and [$4, $5), and over the hours of
-- [$3, $4).
-- $7 to $12 whether to group by component, provider, model, task_type, user, context_id; $13 to $18 filters by them,
-- null for all. An absent task_type, user or context_id is ''.
WITH used AS (
    SELECT component, provider, model, task_type, user_name, context_id, currency, requests, input_tokens,
        output_tokens, cost_nanos, unpriced_requests
    FROM rollups_between($2, $3, $4, $5)
    UNION ALL
    SELECT component, provider, model, coalesce(task_type, ''), coalesce(user_name, ''), coalesce(context_id, ''),
        currency, 1, input_tokens, output_tokens, coalesce(cost_nanos, 0), (cost_nanos IS NULL)::int
    FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2
    UNION ALL
    SELECT component, provider, model, coalesce(task_type, ''), coalesce(user_name, ''), coalesce(context_id, ''),
        currency, 1, input_tokens, output_tokens, coalesce(cost_nanos, 0), (cost_nanos IS NULL)::int
    FROM ledger WHERE occurred_at >= $5 AND occurred_at < $6
)
SELECT CASE WHEN $7 THEN component END AS component, CASE WHEN $8 THEN provider END AS provider,
    CASE WHEN $9 THEN model END AS model, CASE WHEN $10 THEN task_type END AS task_type,
    CASE WHEN $11 THEN user_name END AS user, CASE WHEN $12 THEN context_id END AS context_id, currency,
    sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_nanos) AS cost_nanos, sum(unpriced_requests) AS unpriced_requests
FROM used
WHERE ($13::text[] IS NULL OR component = ANY ($13)) AND ($14::text[] IS NULL OR provider = ANY ($14))
    AND ($15::text[] IS NULL OR model = ANY ($15)) AND ($16::text[] IS NULL OR task_type = ANY ($16))
    AND ($17::text[] IS NULL OR user_name = ANY ($17)) AND ($18::text[] IS NULL OR context_id = ANY ($18))
GROUP BY 1, 2, 3, 4, 5, 6, 7;

-- name: enforcement_level
-- What an operator set at run time, else no row.
SELECT value FROM config WHERE key = 'enforcement_level';

-- name: hold_counts
SELECT state, count(*) AS holds FROM hold WHERE state IN ('open', 'unconfirmed') GROUP BY state;

-- name: hold
-- $1 request_id
SELECT request_id, state, component, provider, model, context_id, cost_nanos, tokens, currency, decided_at, expires_at
FROM hold WHERE request_id = $1;

-- name: holds
-- Oldest first.  $1 state, $2 to $4 component, provider, model or null, $5 and $6 after which one, or null, $7 how many
SELECT request_id, state, component, provider, model, context_id, cost_nanos, tokens, currency, decided_at, expires_at
FROM hold
WHERE state = $1 AND ($2::text[] IS NULL OR component = ANY ($2)) AND ($3::text[] IS NULL OR provider = ANY ($3))
    AND ($4::text[] IS NULL OR model = ANY ($4))
    AND ($5::timestamptz IS NULL OR (decided_at, request_id) > ($5, $6::uuid))
ORDER BY decided_at, request_id LIMIT $7;

-- name: alerts
-- Newest first.  $1 budget_ids or null, $2 acknowledged or null for both, $3 and $4 before which one, or null, $5 how many
SELECT alert_id, payload, raised_at, acknowledged_at, acknowledged_by
FROM alert
WHERE ($1::uuid[] IS NULL OR budget_id = ANY ($1)) AND ($2::boolean IS NULL OR (acknowledged_at IS NOT NULL) = $2)
    AND ($3::timestamptz IS NULL OR (raised_at, alert_id) < ($3, $4::uuid))
ORDER BY raised_at DESC, alert_id DESC LIMIT $5;

-- name: acknowledge
-- The first who takes note stays.  $1 alert_id, $2 when, $3 who
UPDATE alert SET acknowledged_at = $2, acknowledged_by = $3 WHERE alert_id = $1 AND acknowledged_at IS NULL
RETURNING payload, acknowledged_at, acknowledged_by;

-- name: alert
-- $1 alert_id
SELECT payload, acknowledged_at, acknowledged_by FROM alert WHERE alert_id = $1;

-- name: alert_raised_at
-- $1 alert_id
SELECT raised_at FROM alert WHERE alert_id = $1;

-- name: alerts_since
-- Newest first.  $1 raised_at, $2 all but this one, $3 how many
SELECT alert_id, payload FROM alert
WHERE raised_at >= $1 AND alert_id <> $2 ORDER BY raised_at DESC, alert_id DESC LIMIT $3;

-- name: booked
-- $1 event_ids
SELECT event_id, part, record_offset, occurred_at, recorded_at, component, provider, model, tier, service_tier,
    task_type, context_id, user_name AS user, operation_id, tags, input_tokens, output_tokens, cache_read_input_tokens,
    cache_creation_input_tokens, cache_creation_1h_input_tokens, reasoning_output_tokens, input_audio_tokens,
    output_audio_tokens, input_image_tokens, output_image_tokens, token_source, cost_nanos, input_cost_nanos,
    output_cost_nanos, currency, price_status, reported_cost_nanos, reported_currency, request_id, late, unreserved
FROM ledger WHERE event_id = ANY ($1);

-- name: server_version
SELECT current_setting('server_version');

-- name: consumed
-- $1 topics
SELECT topic FROM bus_offset WHERE topic = ANY ($1)
GROUP BY topic HAVING min(seen_at) > clock_timestamp() - interval '10 seconds';
