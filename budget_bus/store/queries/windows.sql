-- name: balances
-- $1 budget_ids, $2 context_ids, $3 window_starts
SELECT b.budget_id, b.context_id, b.window_start, b.spent, b.held, b.unconfirmed, b.carried_in, b.carried_out
FROM balance b JOIN unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS w (budget_id, context_id, window_start)
    ON b.budget_id = w.budget_id AND b.context_id = w.context_id AND b.window_start = w.window_start;

-- name: last_before
-- The last window that a budget used before $2.  $1 budget_id, $2 window_start
SELECT window_start, window_end, spent, held, unconfirmed, carried_in, carried_out
FROM balance WHERE budget_id = $1 AND window_start < $2 ORDER BY window_start DESC LIMIT 1;

-- name: fullest
-- Of each per_context budget the running window that has taken most; all of them have the same limit.
-- $1 budget_ids, $2 now
SELECT DISTINCT ON (budget_id) budget_id, context_id, window_start, window_end, spent, held, unconfirmed, carried_in,
       carried_out
FROM balance WHERE budget_id = ANY ($1::uuid[]) AND context_id <> '' AND window_start <= $2 AND window_end > $2
ORDER BY budget_id, spent + held + unconfirmed DESC, window_start DESC, context_id;

-- name: windows
-- Of one budget, newest first, those that reach into [$3, $4).  $1 budget_id, $2 now, $3 start or null, $4 end or null,
-- $5 context_id or null, $6 and $7 before which window_start and context_id, or null, $8 how many
SELECT context_id, window_start, window_end, spent, held, unconfirmed, carried_in, carried_out
FROM balance
WHERE budget_id = $1 AND window_start <= $2
    AND ($3::timestamptz IS NULL OR window_end IS NULL OR window_end > $3)
    AND ($4::timestamptz IS NULL OR window_start < $4) AND ($5::text IS NULL OR context_id = $5)
    AND ($6::timestamptz IS NULL OR (window_start, context_id) < ($6, $7::text))
ORDER BY window_start DESC, context_id DESC LIMIT $8;

-- name: limits_of
-- What was said of budgets, oldest first.  $1 budget_ids as texts
SELECT at, after FROM change
WHERE kind IN ('limit', 'allocation') AND after ->> 'budget_id' = ANY ($1::text[]) ORDER BY at, change_id;

-- name: raises_of
-- All that there were.  $1 budget_ids
SELECT budget_id, amount, starts_at, ends_at FROM limit_raise WHERE budget_id = ANY ($1::uuid[]);
