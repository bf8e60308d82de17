-- name: for_many_rows
-- For the rest of a transaction. The planner takes each combination of the names for a group of its own, and would sort
-- all rollups of the span on disk, which takes twice as long as to sum them up; and a plan for any span, which it comes
-- to after some reports, takes the way that is best for a few rows.
SELECT set_config('enable_sort', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: series
-- Sums per bin over [$1, $2) and [$5, $6), read from the ledger, over the rollups of [$2, $3) and [$4, $5), and over the
-- hours of [$3, $4), by component, provider and model, and if $8 to $11 say so by tier, task_type, user and context_id;
-- $12 to $18 filter by all of these, null for all. $7 are the starts of the bins, ascending, of which the first bin is 1. At most $19 rows.
-- What restating moved is kept per bucket alone: a bucket counts if it begins in [$1, $6).
WITH used AS (
    SELECT bucket_start AS at, component, provider, model, tier, task_type, user_name, context_id, currency, requests,
        input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens, cache_read_input_tokens,
        late_requests, late_cost_nanos, 0::bigint AS restated_nanos
    FROM rollups_between($2, $3, $4, $5)
    UNION ALL
    SELECT occurred_at, component, provider, model, tier, coalesce(task_type, ''), coalesce(user_name, ''),
        coalesce(context_id, ''), currency, 1, input_tokens, output_tokens, coalesce(cost_nanos, 0),
        (cost_nanos IS NULL)::int, CASE WHEN cost_nanos IS NULL THEN input_tokens + output_tokens ELSE 0 END,
        cache_read_input_tokens, late::int, CASE WHEN late THEN coalesce(cost_nanos, 0) ELSE 0 END, 0
    FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2 OR occurred_at >= $5 AND occurred_at < $6
    UNION ALL
    SELECT bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency, 0, 0, 0, 0, 0, 0,
        0, 0, 0, moved_nanos
    FROM restated_rollup WHERE bucket_start >= $1 AND bucket_start < $6
)
SELECT width_bucket(at, $7::timestamptz[]) AS bin, component, provider, model, CASE WHEN $8 THEN tier END AS tier,
    CASE WHEN $9 THEN task_type END AS task_type, CASE WHEN $10 THEN user_name END AS user,
    CASE WHEN $11 THEN context_id END AS context_id, currency,
    sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_nanos) AS cost_nanos, sum(unpriced_requests) AS unpriced_requests, sum(unpriced_tokens) AS unpriced_tokens,
    sum(cache_read_input_tokens) AS cache_read_input_tokens, sum(late_requests) AS late_requests,
    sum(late_cost_nanos) AS late_cost_nanos, sum(restated_nanos) AS restated_nanos
FROM used
WHERE ($12::text[] IS NULL OR component = ANY ($12)) AND ($13::text[] IS NULL OR provider = ANY ($13))
    AND ($14::text[] IS NULL OR model = ANY ($14)) AND ($15::text[] IS NULL OR tier = ANY ($15))
    AND ($16::text[] IS NULL OR task_type = ANY ($16)) AND ($17::text[] IS NULL OR user_name = ANY ($17))
    AND ($18::text[] IS NULL OR context_id = ANY ($18))
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
LIMIT $19;

-- name: contexts
-- How many contexts there are and what they cost, by those of component, provider, model, tier, task_type, user and
-- context_id that $7 to $13 name, and of all (of_all); spans as in series, $14 to $20 filter, $21 is the currency.
WITH used AS (
    SELECT component, provider, model, tier, task_type, user_name, context_id, currency, cost_nanos
    FROM rollups_between($2, $3, $4, $5) WHERE context_id <> ''
    UNION ALL
    SELECT component, provider, model, tier, coalesce(task_type, ''), coalesce(user_name, ''), context_id, currency,
        coalesce(cost_nanos, 0)
    FROM ledger
    WHERE (occurred_at >= $1 AND occurred_at < $2 OR occurred_at >= $5 AND occurred_at < $6) AND context_id <> ''
), each AS (
    SELECT CASE WHEN $7 THEN component END AS component, CASE WHEN $8 THEN provider END AS provider,
        CASE WHEN $9 THEN model END AS model, CASE WHEN $10 THEN tier END AS tier,
        CASE WHEN $11 THEN task_type END AS task_type, CASE WHEN $12 THEN user_name END AS user, context_id,
        sum(cost_nanos) FILTER (WHERE currency = $21) AS cost_nanos
    FROM used
    WHERE ($14::text[] IS NULL OR component = ANY ($14)) AND ($15::text[] IS NULL OR provider = ANY ($15))
        AND ($16::text[] IS NULL OR model = ANY ($16)) AND ($17::text[] IS NULL OR tier = ANY ($17))
        AND ($18::text[] IS NULL OR task_type = ANY ($18)) AND ($19::text[] IS NULL OR user_name = ANY ($19))
        AND ($20::text[] IS NULL OR context_id = ANY ($20))
    GROUP BY 1, 2, 3, 4, 5, 6, 7
)
SELECT false AS of_all, component, provider, model, tier, task_type, "user", CASE WHEN $13 THEN context_id END AS context_id,
    count(*) AS contexts, coalesce(sum(cost_nanos), 0) AS cost_nanos
FROM each WHERE $7 OR $8 OR $9 OR $10 OR $11 OR $12 OR $13
GROUP BY 2, 3, 4, 5, 6, 7, 8
UNION ALL
SELECT true, null, null, null, null, null, null, null, count(DISTINCT context_id), coalesce(sum(cost_nanos), 0) FROM each;

-- name: unconfirmed
-- What is charged for calls of which nothing was heard, by currency; unpriced ones have no amount.
SELECT currency, count(*) AS holds, coalesce(sum(cost_nanos), 0) AS cost_nanos FROM hold
WHERE state = 'unconfirmed' AND ($1::text[] IS NULL OR component = ANY ($1))
    AND ($2::text[] IS NULL OR provider = ANY ($2)) AND ($3::text[] IS NULL OR model = ANY ($3))
GROUP BY currency;
