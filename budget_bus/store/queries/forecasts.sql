-- name: hours
-- The rollups in [$1, $2), summed by hour of the clock of zone $3, component, and those dimensions that a scope asks for:
-- $4 to $9 whether to tell apart provider, model, tier, task_type, context_id, user.
SELECT date_trunc('hour', bucket_start, $3) AS hour, component,
       CASE WHEN $4 THEN provider END AS provider, CASE WHEN $5 THEN model END AS model, CASE WHEN $6 THEN tier END AS tier,
       CASE WHEN $7 THEN nullif(task_type, '') END AS task_type,
       CASE WHEN $8 THEN nullif(context_id, '') END AS context_id,
       CASE WHEN $9 THEN nullif(user_name, '') END AS user_name, currency,
       sum(requests)::bigint AS requests, sum(input_tokens + output_tokens)::bigint AS tokens,
       sum(cost_nanos)::bigint AS cost
FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: made
-- When each budget's forecast was made, and of which window.
SELECT budget_id, window_start, made_at FROM forecast WHERE leaving_out = '';

-- name: begin
-- Whoever writes a budget's forecast first makes its row.  $1 budget_id, $2 window_start
INSERT INTO forecast (budget_id, leaving_out, window_start, made_at) VALUES ($1, '', $2, 'epoch')
ON CONFLICT (budget_id, leaving_out) DO NOTHING;

-- name: lock
-- $1 budget_id
SELECT window_start, made_at, alert_version, seen, kept, announced FROM forecast
WHERE budget_id = $1 AND leaving_out = '' FOR UPDATE;

-- name: write
-- $1 budget_id, $2 leaving_out, $3 window_start, $4 made_at, $5 method, $6 reason, $7 expected, $8 low, $9 high,
-- $10 backtest_error_percent, $11 run_rate_error_percent, $12 path
INSERT INTO forecast (budget_id, leaving_out, window_start, made_at, method, reason, expected, low, high,
                      backtest_error_percent, run_rate_error_percent, path)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (budget_id, leaving_out) DO UPDATE SET window_start = $3, made_at = $4, method = $5, reason = $6,
    expected = $7, low = $8, high = $9, backtest_error_percent = $10, run_rate_error_percent = $11, path = $12;

-- name: watched
-- What alerts are compared with next time.  $1 budget_id (locked), $2 version, $3 seen, $4 kept, $5 announced
UPDATE forecast SET alert_version = $2, seen = $3, kept = $4, announced = $5 WHERE budget_id = $1 AND leaving_out = '';

-- name: forget_others
-- Of components that are no longer among those of the budget.  $1 budget_id, $2 made_at of those that stay
DELETE FROM forecast WHERE budget_id = $1 AND leaving_out <> '' AND made_at < $2;

-- name: forget_removed
DELETE FROM forecast f USING budget b WHERE b.budget_id = f.budget_id AND b.deleted_at IS NOT NULL;

-- name: read
-- $1 budget_ids, $2 the component that is left out, or '': without one of its own the whole budget's is taken.
SELECT DISTINCT ON (budget_id) budget_id, leaving_out, window_start, made_at, method, reason, backtest_error_percent,
       run_rate_error_percent, path
FROM forecast WHERE budget_id = ANY ($1::uuid[]) AND leaving_out IN ('', $2)
ORDER BY budget_id, leaving_out DESC;
