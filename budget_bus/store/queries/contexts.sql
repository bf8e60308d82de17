-- name: windows
-- The windows of contexts in per_context budgets.  $1 budget_ids, $2 context_ids
SELECT b.budget_id, b.context_id, b.window_start, b.window_end
FROM balance b JOIN unnest($1::uuid[], $2::text[]) AS u (budget_id, context_id)
    ON b.budget_id = u.budget_id AND b.context_id = u.context_id
ORDER BY b.window_start;

-- name: lock
-- Two transactions must not begin a window of one context at once. In order, so that they cannot deadlock.
-- $1 the contexts' lock, $2 budget_ids and context_ids as texts
SELECT pg_advisory_xact_lock(hashtextextended(t, $1)) FROM unnest($2::text[]) AS t ORDER BY t;

-- name: first_seen
-- When a context was first heard of in [$2, $3]: by usage, or by a hold that has not ended.  $1 context_id
SELECT least(
    (SELECT min(accounted_at) FROM ledger WHERE context_id = $1 AND accounted_at >= $2 AND accounted_at <= $3),
    (SELECT min(decided_at) FROM hold
     WHERE context_id = $1 AND decided_at >= $2 AND decided_at <= $3 AND state IN ('open', 'unconfirmed'))
);
