-- name: newest
SELECT DISTINCT ON (currency) currency, published, effective_from FROM exchange_rate
WHERE currency <> 'EUR' ORDER BY currency, effective_from DESC;

-- name: read
SELECT currency, effective_from, per_eur, published FROM exchange_rate;

-- name: on_day
-- $1 day
SELECT DISTINCT ON (currency) currency, effective_from, per_eur, published FROM exchange_rate
WHERE effective_from <= $1 ORDER BY currency, effective_from DESC;

-- name: count
SELECT count(*) FROM exchange_rate;

-- name: add
-- $1 currency, $2 effective_from, $3 per_eur, $4 published, $5 source
INSERT INTO exchange_rate (currency, effective_from, per_eur, published, source)
SELECT $1, u.effective_from, u.per_eur, u.published, $5
FROM unnest($2::date[], $3::bigint[], $4::date[]) AS u (effective_from, per_eur, published);
