-- name: known
-- Which of these events are in the ledger already, and what they said.  $1 event_ids
SELECT event_id, digest FROM ledger WHERE event_id = ANY ($1);

-- name: add_rollups
-- Keys in order, so that two settlers cannot deadlock. Hours that are folded take their part at once; the catalogue's
-- lock, which the transaction shares, keeps rollup_folded as it is.
WITH given AS (
    SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
        $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[])
        AS g (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency, requests,
            input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens, cache_read_input_tokens,
            late_requests, late_cost_nanos)
), hours AS (
    INSERT INTO rollup_hour AS r
    SELECT hour_of(bucket_start), component, provider, model, tier, task_type, user_name, context_id, currency,
        sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nanos), sum(unpriced_requests),
        sum(unpriced_tokens), sum(cache_read_input_tokens), sum(late_requests), sum(late_cost_nanos)
    FROM given WHERE bucket_start < (SELECT hours_until FROM rollup_folded)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency)
    DO UPDATE SET
        requests = r.requests + excluded.requests, input_tokens = r.input_tokens + excluded.input_tokens,
        output_tokens = r.output_tokens + excluded.output_tokens, cost_nanos = r.cost_nanos + excluded.cost_nanos,
        unpriced_requests = r.unpriced_requests + excluded.unpriced_requests,
        unpriced_tokens = r.unpriced_tokens + excluded.unpriced_tokens,
        cache_read_input_tokens = r.cache_read_input_tokens + excluded.cache_read_input_tokens,
        late_requests = r.late_requests + excluded.late_requests,
        late_cost_nanos = r.late_cost_nanos + excluded.late_cost_nanos
)
INSERT INTO rollup AS r (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
    requests, input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens, cache_read_input_tokens,
    late_requests, late_cost_nanos)
SELECT * FROM given
ON CONFLICT (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency) DO UPDATE SET
    requests = r.requests + excluded.requests, input_tokens = r.input_tokens + excluded.input_tokens,
    output_tokens = r.output_tokens + excluded.output_tokens, cost_nanos = r.cost_nanos + excluded.cost_nanos,
    unpriced_requests = r.unpriced_requests + excluded.unpriced_requests,
    unpriced_tokens = r.unpriced_tokens + excluded.unpriced_tokens,
    cache_read_input_tokens = r.cache_read_input_tokens + excluded.cache_read_input_tokens,
    late_requests = r.late_requests + excluded.late_requests,
    late_cost_nanos = r.late_cost_nanos + excluded.late_cost_nanos;

-- name: fold_hour
-- The next hour becomes a sum of its rollups, under the exclusive catalogue lock, if it ends by $1; no row if not yet.
WITH folded AS (
    UPDATE rollup_folded SET hours_until = hours_until + interval '1 hour'
    WHERE hours_until + interval '1 hour' <= $1
    RETURNING hours_until
), summed AS (
    INSERT INTO rollup_hour
    SELECT hour_of(bucket_start), component, provider, model, tier, task_type, user_name, context_id, currency,
        sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nanos), sum(unpriced_requests),
        sum(unpriced_tokens), sum(cache_read_input_tokens), sum(late_requests), sum(late_cost_nanos)
    FROM rollup, folded
    WHERE bucket_start >= hours_until - interval '1 hour' AND bucket_start < hours_until
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
)
SELECT hours_until FROM folded;
