-- name: lock
-- Two imports of one provider at once would leave lines of both.  $1 provider
SELECT pg_advisory_xact_lock(hashtextextended('invoice ' || $1, 0));

-- name: remove
-- What the export no longer has of its days.  $1 provider, $2 days, $3 to $5 day, item and currency of its lines
DELETE FROM invoice_line l
WHERE provider = $1 AND day = ANY ($2::date[])
  AND NOT EXISTS (SELECT FROM unnest($3::date[], $4::text[], $5::text[]) AS u (day, item, currency)
                  WHERE u.day = l.day AND u.item = l.item AND u.currency = l.currency)
RETURNING 1;

-- name: put
-- $1 provider, $2 days, $3 items, $4 models, $5 currencies, $6 nanos, $7 actor
INSERT INTO invoice_line AS l (provider, day, item, model, currency, cost_nanos, actor)
SELECT $1, u.*, $7 FROM unnest($2::date[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    AS u (day, item, model, currency, cost_nanos)
ON CONFLICT (provider, day, item, currency) DO UPDATE
    SET model = excluded.model, cost_nanos = excluded.cost_nanos, actor = excluded.actor, imported_at = clock_timestamp()
    WHERE (l.model, l.cost_nanos) IS DISTINCT FROM (excluded.model, excluded.cost_nanos)
RETURNING 1;

-- name: invoiced
-- $1 first day, $2 day after the last, $3 providers, or none for all
SELECT provider, day, item, model, currency, cost_nanos FROM invoice_line
WHERE day >= $1 AND day < $2 AND (cardinality($3::text[]) = 0 OR provider = ANY ($3))
ORDER BY provider, day, item, currency;

-- name: booked
-- $1 first day, $2 day after the last, $3 providers, or none for all
SELECT provider, (bucket_start AT TIME ZONE 'UTC')::date AS day, model, currency, sum(cost_nanos)::bigint AS cost_nanos,
       sum(requests)::bigint AS requests, sum(unpriced_requests)::bigint AS unpriced_requests
FROM rollup
WHERE bucket_start >= ($1::date)::timestamp AT TIME ZONE 'UTC' AND bucket_start < ($2::date)::timestamp AT TIME ZONE 'UTC'
  AND (cardinality($3::text[]) = 0 OR provider = ANY ($3))
GROUP BY 1, 2, 3, 4 HAVING sum(requests) > 0 ORDER BY 1, 2, 3, 4;
