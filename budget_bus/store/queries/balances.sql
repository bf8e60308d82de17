-- name: find
-- $1 budget_ids, $2 context_ids, $3 window_starts
SELECT b.balance_id, b.budget_id, b.context_id, b.window_start
FROM balance b JOIN unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS u (budget_id, context_id, window_start)
    ON b.budget_id = u.budget_id AND b.context_id = u.context_id AND b.window_start = u.window_start;

-- name: bear
-- Whoever inserts the row owes it the ledger's sum; everyone else waits for that transaction and adds to it.
-- $1 budget_ids, $2 context_ids, $3 window_starts, $4 window_ends; in order, so that two births cannot deadlock
INSERT INTO balance (budget_id, context_id, window_start, window_end)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[])
ON CONFLICT (budget_id, context_id, window_start) DO NOTHING
RETURNING balance_id, budget_id, context_id, window_start;

-- name: lock_before
-- The last window that a budget used before $2: it is locked, so that what it has left cannot be taken twice.
-- $1 budget_id, $2 window_start
SELECT balance_id, window_start, window_end, spent, held, unconfirmed, carried_in, carried_out
FROM balance WHERE budget_id = $1 AND window_start < $2 ORDER BY window_start DESC LIMIT 1 FOR UPDATE;

-- name: carry
-- $1 balance_id that hands on, $2 how much of its own, $3 balance_id that receives, $4 how much with idle windows' part
WITH noted AS (
    INSERT INTO movement (seq, kind, balance_id) VALUES (nextval('books_order'), 'carried', $3)
)
UPDATE balance SET carried_out = carried_out + CASE WHEN balance_id = $1 THEN $2::bigint ELSE 0 END,
                   carried_in = carried_in + CASE WHEN balance_id = $3 THEN $4::bigint ELSE 0 END
WHERE balance_id IN ($1, $3);

-- name: ledger_sums
-- The ledger of one window, summed by just the dimensions that a scope asks for: the others come back null.
-- $1 window_start, $2 window_end or null, $3 to $10 whether to tell apart component, provider, model, tier, task_type,
-- context_id, user, tags; $11 the one context that counts, or ''
SELECT CASE WHEN $3 THEN component END AS component, CASE WHEN $4 THEN provider END AS provider,
       CASE WHEN $5 THEN model END AS model, CASE WHEN $6 THEN tier END AS tier,
       CASE WHEN $7 THEN task_type END AS task_type, CASE WHEN $8 THEN context_id END AS context_id,
       CASE WHEN $9 THEN user_name END AS user_name, CASE WHEN $10 THEN tags END AS tags, currency,
       count(*)::bigint AS requests, sum(input_tokens + output_tokens)::bigint AS tokens,
       coalesce(sum(cost_nanos), 0)::bigint AS cost
FROM ledger
WHERE accounted_at >= $1 AND ($2::timestamptz IS NULL OR accounted_at < $2) AND ($11 = '' OR context_id = $11)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: exchanged_sums
-- As ledger_sums, with costs in one currency: each event's own by the rates of its day.  $12 the currency
WITH day AS (
    SELECT currency, day, per_eur_on(currency, day) AS source, per_eur_on($12, day) AS target
    FROM (SELECT DISTINCT currency, (accounted_at AT TIME ZONE 'UTC')::date AS day FROM ledger
          WHERE accounted_at >= $1 AND ($2::timestamptz IS NULL OR accounted_at < $2)) AS days
)
SELECT CASE WHEN $3 THEN component END AS component, CASE WHEN $4 THEN provider END AS provider,
       CASE WHEN $5 THEN model END AS model, CASE WHEN $6 THEN tier END AS tier,
       CASE WHEN $7 THEN task_type END AS task_type, CASE WHEN $8 THEN context_id END AS context_id,
       CASE WHEN $9 THEN user_name END AS user_name, CASE WHEN $10 THEN tags END AS tags,
       coalesce(sum(CASE WHEN l.currency = $12 THEN l.cost_nanos ELSE exchanged(l.cost_nanos, d.source, d.target) END),
                0)::bigint AS cost
FROM ledger l JOIN day d ON d.currency = l.currency AND d.day = (l.accounted_at AT TIME ZONE 'UTC')::date
WHERE accounted_at >= $1 AND ($2::timestamptz IS NULL OR accounted_at < $2) AND ($11 = '' OR context_id = $11)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;

-- name: charge
-- $1 balance_id, $2 spent, $3 held, $4 unconfirmed
UPDATE balance SET spent = $2, held = $3, unconfirmed = $4 WHERE balance_id = $1;

-- name: lock
-- Hot rows: locked last, in id order, so that no two transactions wait for each other.  $1 balance_ids
SELECT balance_id, spent, held, unconfirmed, carried_in, carried_out, alert_version, spent_reached, committed_reached
FROM balance WHERE balance_id = ANY ($1) ORDER BY balance_id FOR UPDATE;

-- name: move
-- $1 balance_ids (locked), $2 spent deltas, $3 held deltas, $4 unconfirmed deltas; $5 to $14 what moves them, all of it
-- at one place in the order: kinds, at, topics, parts, from_offsets, to_offsets, request_ids, cost_nanos, tokens, calls
WITH turn AS MATERIALIZED (
    SELECT nextval('books_order') AS seq
), noted AS (
    INSERT INTO movement (seq, kind, at, topic, part, from_offset, to_offset, request_id, cost_nanos, tokens, calls)
    SELECT turn.seq, u.*
    FROM turn, unnest($5::text[], $6::timestamptz[], $7::text[], $8::int[], $9::bigint[], $10::bigint[], $11::uuid[],
                      $12::bigint[], $13::bigint[], $14::bigint[]) AS u
)
UPDATE balance b
SET spent = b.spent + u.spent, held = b.held + u.held, unconfirmed = b.unconfirmed + u.unconfirmed
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (balance_id, spent, held, unconfirmed)
WHERE b.balance_id = u.balance_id;

-- name: describe
-- Budget and window of balances, also of removed budgets.  $1 balance_ids
SELECT balance_id, budget_id, context_id, window_start, window_end FROM balance WHERE balance_id = ANY ($1);

-- name: reach
-- What alerts are compared with next time.  $1 balance_ids (locked), $2 versions, $3 spent, $4 committed thresholds
UPDATE balance b SET alert_version = u.version, spent_reached = u.spent, committed_reached = u.committed
FROM unnest($1::bigint[], $2::int[], $3::int[], $4::int[]) AS u (balance_id, version, spent, committed)
WHERE b.balance_id = u.balance_id;
