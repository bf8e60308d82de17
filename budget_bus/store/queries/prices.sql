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
