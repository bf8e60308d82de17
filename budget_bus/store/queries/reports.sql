-- name: series
-- Sums per bin over [$1, $2) and [$5, $6), read from the ledger, and over the whole buckets of [$3, $4), by component,
-- provider and model, and if $8 to $10 say so by task_type, user and context_id; $11 to $16 filter by these, null for
-- all. $7 are the starts of the bins, ascending, of which the first bin is 1. At most $17 rows.
WITH used AS (
    SELECT bucket_start AS at, component, provider, model, task_type, user_name, context_id, currency, requests,
        input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens
    FROM rollup WHERE bucket_start >= $3 AND bucket_start < $4
    UNION ALL
    SELECT occurred_at, component, provider, model, coalesce(task_type, ''), coalesce(user_name, ''),
        coalesce(context_id, ''), currency, 1, input_tokens, output_tokens, coalesce(cost_nanos, 0),
        (cost_nanos IS NULL)::int, CASE WHEN cost_nanos IS NULL THEN input_tokens + output_tokens ELSE 0 END
    FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2 OR occurred_at >= $5 AND occurred_at < $6
)
SELECT width_bucket(at, $7::timestamptz[]) AS bin, component, provider, model,
    CASE WHEN $8 THEN task_type END AS task_type, CASE WHEN $9 THEN user_name END AS user,
    CASE WHEN $10 THEN context_id END AS context_id, currency,
    sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_nanos) AS cost_nanos, sum(unpriced_requests) AS unpriced_requests, sum(unpriced_tokens) AS unpriced_tokens
FROM used
WHERE ($11::text[] IS NULL OR component = ANY ($11)) AND ($12::text[] IS NULL OR provider = ANY ($12))
    AND ($13::text[] IS NULL OR model = ANY ($13)) AND ($14::text[] IS NULL OR task_type = ANY ($14))
    AND ($15::text[] IS NULL OR user_name = ANY ($15)) AND ($16::text[] IS NULL OR context_id = ANY ($16))
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
LIMIT $17;

-- name: unconfirmed
-- What is charged for calls of which nothing was heard, by currency; unpriced ones have no amount.
SELECT currency, count(*) AS holds, coalesce(sum(cost_nanos), 0) AS cost_nanos FROM hold
WHERE state = 'unconfirmed' AND ($1::text[] IS NULL OR component = ANY ($1))
    AND ($2::text[] IS NULL OR provider = ANY ($2)) AND ($3::text[] IS NULL OR model = ANY ($3))
GROUP BY currency;
