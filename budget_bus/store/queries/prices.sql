-- name: own
-- All prices that operators have set, in the order in which they hold.
SELECT provider, model, service_tier, effective_from, currency, rates, actor, set_at FROM price
ORDER BY provider, model, service_tier, effective_from;

-- name: one
-- $1 provider, $2 model, $3 service_tier, $4 effective_from
SELECT provider, model, service_tier, effective_from, currency, rates, actor, set_at FROM price
WHERE provider = $1 AND model = $2 AND service_tier = $3 AND effective_from = $4;

-- name: set
-- $1 provider, $2 model, $3 service_tier, $4 effective_from, $5 currency, $6 rates, $7 actor
INSERT INTO price (provider, model, service_tier, effective_from, currency, rates, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (provider, model, service_tier, effective_from)
DO UPDATE SET currency = excluded.currency, rates = excluded.rates, actor = excluded.actor, set_at = clock_timestamp();

-- name: remove
-- $1 provider, $2 model, $3 service_tier or null for all, $4 effective_from or null for all
DELETE FROM price
WHERE provider = $1 AND model = $2 AND ($3::text IS NULL OR service_tier = $3)
  AND ($4::timestamptz IS NULL OR effective_from = $4)
RETURNING provider, model, service_tier, effective_from, currency, rates, actor, set_at;

-- name: data_id
-- The number of the price data in force, 0 for what came with the release.
SELECT coalesce(max(data_id), 0) FROM price_data;

-- name: data
SELECT data_id, source, fetched_at, document FROM price_data ORDER BY data_id DESC LIMIT 1;

-- name: put_data
-- $1 source, $2 fetched_at, $3 document
INSERT INTO price_data (source, fetched_at, document) VALUES ($1, $2, $3);

-- name: trim_data
-- The last good ones are enough to go back to.  $1 how many to keep
DELETE FROM price_data WHERE data_id <= (SELECT max(data_id) FROM price_data) - $1;

-- name: reviews
-- $1 states
SELECT provider, model, reason, before, after, state, found_at, decided_at, decided_by FROM price_review
WHERE state = ANY ($1) ORDER BY provider, model;

-- name: put_reviews
-- What waits; an open question is asked with its newest numbers.  $1 providers, $2 models, $3 reasons, $4 before,
-- $5 after, $6 at
INSERT INTO price_review (provider, model, reason, before, after, state, found_at)
SELECT u.provider, u.model, u.reason, u.before, u.after, 'waiting', $6
FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[]) AS u (provider, model, reason, before, after)
ON CONFLICT (provider, model) DO UPDATE SET reason = excluded.reason, before = excluded.before,
    after = excluded.after, state = 'waiting', decided_at = NULL, decided_by = NULL,
    found_at = CASE WHEN price_review.state = 'waiting' THEN price_review.found_at ELSE excluded.found_at END;

-- name: close_reviews
-- What no longer differs needs no decision.  $1 providers, $2 models that still wait
DELETE FROM price_review r WHERE r.state = 'waiting'
    AND NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS u (p, m) WHERE u.p = r.provider AND u.m = r.model);

-- name: decide_review
-- $1 provider, $2 model, $3 state, $4 by
UPDATE price_review SET state = $3, decided_at = clock_timestamp(), decided_by = $4
WHERE provider = $1 AND model = $2 AND state = 'waiting'
RETURNING provider, model, reason, before, after, state, found_at, decided_at, decided_by;

-- name: audit_many
-- $1 change_ids, $2 before, $3 after, $4 actor, $5 at
INSERT INTO change (change_id, kind, before, after, actor, at)
SELECT u.change_id, 'price', u.before, u.after, $4, $5
FROM unnest($1::uuid[], $2::jsonb[], $3::jsonb[]) AS u (change_id, before, after);
