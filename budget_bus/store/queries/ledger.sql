-- name: known
-- Which of these events are in the ledger already, and what they said.  $1 event_ids
SELECT event_id, digest FROM ledger WHERE event_id = ANY ($1);

-- name: insert
-- One column of $1 to $32 per column of the table.
INSERT INTO ledger (event_id, digest, occurred_at, accounted_at, component, provider, model, tier, service_tier,
    task_type, context_id, user_name, operation_id, tags, input_tokens, output_tokens, cache_read_input_tokens,
    cache_creation_input_tokens, reasoning_output_tokens, input_audio_tokens, output_audio_tokens, token_source,
    cost_nanos, input_cost_nanos, output_cost_nanos, currency, price_status, price_source, reported_cost_nanos,
    reported_currency, request_id, late, unreserved, topic, part, record_offset)
SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::jsonb[], $15::bigint[],
    $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::text[],
    $23::bigint[], $24::bigint[], $25::bigint[], $26::text[], $27::text[], $28::text[], $29::bigint[], $30::text[],
    $31::uuid[], $32::boolean[], $33::boolean[], $34::text[], $35::int[], $36::bigint[])
ON CONFLICT (event_id) DO NOTHING;

-- name: add_rollups
-- Keys in order, so that two settlers cannot deadlock.
INSERT INTO rollup AS r (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
    requests, input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[])
ON CONFLICT (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency) DO UPDATE SET
    requests = r.requests + excluded.requests, input_tokens = r.input_tokens + excluded.input_tokens,
    output_tokens = r.output_tokens + excluded.output_tokens, cost_nanos = r.cost_nanos + excluded.cost_nanos,
    unpriced_requests = r.unpriced_requests + excluded.unpriced_requests,
    unpriced_tokens = r.unpriced_tokens + excluded.unpriced_tokens;
