-- name: used
-- Ledger rows of [$1, $2), for a cursor.
SELECT occurred_at, component, provider, model, tier, service_tier, task_type, context_id, user_name, tags,
    input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, cache_creation_1h_input_tokens,
    reasoning_output_tokens, input_audio_tokens, output_audio_tokens, input_image_tokens, output_image_tokens,
    cost_nanos, currency
FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2;

-- name: denied
-- Whether a check of [$1, $2) was denied.
SELECT EXISTS (SELECT FROM decision WHERE action = 'deny' AND decided_at >= $1 AND decided_at < $2);

-- name: repeated
-- What calls of [$1, $2) have in common with the one before of their context, by component, provider, model and task
-- type: of those that follow within $3, and of those that do not, the smallest input of their context, if it has at
-- least $4 tokens. Only groups that have read nothing from a cache.
WITH called AS (
    SELECT component, provider, model, task_type, context_id, occurred_at, event_id, cache_read_input_tokens,
        greatest(0, input_tokens - cache_read_input_tokens - cache_creation_input_tokens - input_audio_tokens
            - input_image_tokens) AS plain
    FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2
), placed AS (
    SELECT component, provider, model, task_type, cache_read_input_tokens, plain,
        CASE WHEN context_id IS NULL THEN 0 ELSE min(plain) OVER context END AS prefix,
        coalesce(occurred_at - lag(occurred_at) OVER (context ORDER BY occurred_at, event_id) <= $3::interval, false)
            AS follows
    FROM called
    WINDOW context AS (PARTITION BY component, provider, model, task_type, context_id)
)
SELECT component, provider, model, task_type, count(*) AS requests, sum(plain)::bigint AS plain_tokens,
    count(*) FILTER (WHERE follows AND prefix >= $4) AS repeats,
    coalesce(sum(prefix) FILTER (WHERE follows AND prefix >= $4), 0)::bigint AS read_tokens,
    coalesce(sum(prefix) FILTER (WHERE NOT follows AND prefix >= $4), 0)::bigint AS written_tokens
FROM placed GROUP BY component, provider, model, task_type
HAVING sum(cache_read_input_tokens) = 0 AND count(*) FILTER (WHERE follows AND prefix >= $4) > 0;

-- name: refused
-- What checks of [$1, $2) were denied, by the budget that the answer names and its window: in the budget's unit, and as
-- cost where the model had a price; and the most that the window had taken when it denied one, with what was held then.
-- What was denied for another reason than a limit is left out.
SELECT (line ->> 'budget_id')::uuid AS budget_id, (line ->> 'window_start')::timestamptz AS window_start,
    count(*) AS checks, sum((said ->> 'estimated_additional')::numeric) AS amount,
    max((said ->> 'usage')::numeric) AS committed,
    coalesce(sum((said ->> 'estimated_cost')::numeric), 0) AS cost
FROM (SELECT answer::jsonb AS said FROM decision WHERE action = 'deny' AND decided_at >= $1 AND decided_at < $2) AS d
    CROSS JOIN LATERAL jsonb_array_elements(said -> 'budgets') AS line
WHERE line ->> 'budget_id' = said ->> 'binding_budget' AND said ->> 'estimated_additional' IS NOT NULL
    AND said ->> 'reason' NOT LIKE 'stale:%' AND said ->> 'reason' NOT LIKE 'paused:%'
GROUP BY 1, 2;

-- name: taken
-- What windows that reach into [$1, $2) have taken; of contexts none.
SELECT budget_id, window_start, window_end, spent + held + unconfirmed AS committed
FROM balance WHERE context_id = '' AND window_start < $2 AND (window_end IS NULL OR window_end > $1)
ORDER BY budget_id, window_start;
