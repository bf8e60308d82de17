-- name: lock_named
-- The holds that events name, in id order.  $1 request_ids
SELECT request_id, state, component, decided_at, cost_nanos, tokens, balance_ids, amounts, lease, calls, units,
       given_back
FROM hold WHERE request_id = ANY ($1) ORDER BY request_id FOR UPDATE;

-- name: lock_oldest_open
-- The oldest open holds of each caller, and context where one is given, at most as many as the caller has events. An
-- event of long ago must not settle a hold of today, so only holds decided before the caller's newest event count.
-- Those that the batch's events name are theirs.  $1 components, $2 providers, $3 models, $4 context_ids or nulls,
-- $5 how many, $6 decided no later than, $7 request_ids that are named
SELECT DISTINCT h.request_id, h.state, h.component, h.provider, h.model, h.context_id, h.decided_at, h.cost_nanos,
       h.tokens, h.balance_ids, h.amounts, h.lease, h.calls, h.units, h.given_back
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[])
    AS u (component, provider, model, context_id, n, upto),
LATERAL (
    SELECT * FROM hold
    WHERE state = 'open' AND component = u.component AND provider = u.provider AND model = u.model
      AND (u.context_id IS NULL OR context_id = u.context_id) AND decided_at <= u.upto AND NOT lease
      AND request_id <> ALL ($7)
    ORDER BY decided_at, request_id LIMIT u.n FOR UPDATE
) h
ORDER BY h.decided_at, h.request_id;

-- name: lock_in_window
-- Holds that a budget born in mid-window must be charged with: those decided in the window that have not ended, and
-- the unconfirmed ones; their cost is in the budget's currency.
-- $1 window_start, $2 window_end or null, $3 the one context that counts, or '', $4 the budget's currency or null
SELECT request_id, state, component, provider, model, tier, task_type, context_id, user_name, tags, tokens, lease, calls,
       CASE WHEN currency = $4 THEN cost_nanos
            ELSE exchanged_up(cost_nanos, per_eur_on(currency, (decided_at AT TIME ZONE 'UTC')::date),
                              per_eur_on($4, (decided_at AT TIME ZONE 'UTC')::date)) END AS cost
FROM hold
WHERE state IN ('open', 'unconfirmed') AND decided_at >= $1 AND ($2::timestamptz IS NULL OR decided_at < $2)
  AND ($3 = '' OR context_id = $3)
ORDER BY request_id FOR UPDATE;

-- name: pin
-- $1 request_ids (locked), $2 balance_id, $3 amounts, $4 the unit's letter
UPDATE hold h SET balance_ids = h.balance_ids || $2::bigint, amounts = h.amounts || u.amount,
                  units = CASE WHEN h.lease THEN h.units || $4 ELSE '' END
FROM unnest($1::uuid[], $3::bigint[]) AS u (request_id, amount)
WHERE h.request_id = u.request_id;

-- name: close
-- $1 request_ids (locked), $2 state
UPDATE hold SET state = $2, closed_at = clock_timestamp() WHERE request_id = ANY ($1);

-- name: settle
-- $1 request_ids (locked), $2 event_ids, $3 and $4 nanos and tokens that the event used beyond the hold, or nulls
UPDATE hold h SET state = 'settled', closed_at = clock_timestamp(), event_id = u.event_id, overrun_nanos = u.nanos,
                  overrun_tokens = u.tokens
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) AS u (request_id, event_id, nanos, tokens)
WHERE h.request_id = u.request_id;

-- name: shrink
-- What is left of leases; one without a call left is over.  $1 request_ids (locked), $2 cost_nanos, $3 tokens,
-- $4 calls, $5 amounts and $6 what was given back so far as text arrays
UPDATE hold h SET cost_nanos = u.cost_nanos, tokens = u.tokens, calls = u.calls, amounts = u.amounts::bigint[],
                  given_back = u.given_back::bigint[],
                  state = CASE WHEN u.calls = 0 THEN 'settled' ELSE h.state END,
                  closed_at = CASE WHEN u.calls = 0 THEN clock_timestamp() ELSE h.closed_at END
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
    AS u (request_id, cost_nanos, tokens, calls, amounts, given_back)
WHERE h.request_id = u.request_id;

-- name: known_decisions
-- $1 request_ids
SELECT request_id, digest, action, answer FROM decision WHERE request_id = ANY ($1);

-- name: release_early
-- Waits for a decision of the same id that is under way: afterwards one of the two knows of the other.
-- $1 request_ids, $2 at
INSERT INTO decision (request_id, digest, action, answer, decided_at)
SELECT id, '', 'released', '', $2 FROM unnest($1::uuid[]) AS id
ON CONFLICT (request_id) DO NOTHING;

-- name: extend
-- $1 request_ids (locked), $2 expires_at
UPDATE hold h SET expires_at = greatest(h.expires_at, u.expires_at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS u (request_id, expires_at)
WHERE h.request_id = u.request_id;

-- name: lock_expired
-- Holds that ended before everything up to $1 was in the books: their usage can no longer be in the log unread.
-- Those that a settler has locked are being settled.  $1 watermark, $2 how many
SELECT request_id, state, component, decided_at, cost_nanos, tokens, balance_ids, amounts, lease, calls, units,
       given_back
FROM hold WHERE state = 'open' AND expires_at < $1 ORDER BY expires_at, request_id LIMIT $2 FOR UPDATE SKIP LOCKED;

-- name: leave_unconfirmed
-- An expired hold stays charged on its hard budgets; what remains of it is what they are charged with.
-- $1 request_ids (locked), $2 balance_ids and $3 amounts as text arrays, $4 units
UPDATE hold h SET state = 'unconfirmed', closed_at = clock_timestamp(), balance_ids = u.balance_ids::bigint[],
                  amounts = u.amounts::bigint[], units = u.units
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS u (request_id, balance_ids, amounts, units)
WHERE h.request_id = u.request_id;

-- name: place
-- Decisions, holds and balances in one statement: all of a batch or nothing of it.
-- $1..$8 decisions: request_ids, digests, actions, answers, decided_at, components, providers, models; $9..$27 holds:
-- request_ids, components, providers, models, tiers, task_types, context_ids, users, tags, cost_nanos, tokens,
-- currencies, balance_ids and amounts as text arrays, decided_at, expires_at, lease, calls, units; $28, $29
-- balance_ids (locked) and held deltas; $30 what the decisions were asked, which take their places in the order
WITH decided AS (
    INSERT INTO decision (request_id, digest, action, answer, decided_at, component, provider, model, asked, seq)
    SELECT u.*, nextval('books_order')
    FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
                $30::jsonb[]) AS u
), placed AS (
    INSERT INTO hold (request_id, state, component, provider, model, tier, task_type, context_id, user_name, tags,
                      cost_nanos, tokens, currency, balance_ids, amounts, decided_at, expires_at, lease, calls, units)
    SELECT u.request_id, 'open', u.component, u.provider, u.model, u.tier, u.task_type, u.context_id, u.user_name,
           u.tags, u.cost_nanos, u.tokens, u.currency, u.balance_ids::bigint[], u.amounts::bigint[], u.decided_at,
           u.expires_at, u.lease, u.calls, u.units
    FROM unnest($9::uuid[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
                $17::jsonb[], $18::bigint[], $19::bigint[], $20::text[], $21::text[], $22::text[], $23::timestamptz[],
                $24::timestamptz[], $25::boolean[], $26::bigint[], $27::text[])
        AS u (request_id, component, provider, model, tier, task_type, context_id, user_name, tags, cost_nanos, tokens,
              currency, balance_ids, amounts, decided_at, expires_at, lease, calls, units)
)
UPDATE balance b SET held = b.held + u.held
FROM unnest($28::bigint[], $29::bigint[]) AS u (balance_id, held)
WHERE b.balance_id = u.balance_id;
