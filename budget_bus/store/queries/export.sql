-- name: rows
-- Ledger rows of [$1, $2) in the order they occurred, for a cursor.  $3 to $5 component, provider, model or null
SELECT event_id, occurred_at, accounted_at, recorded_at, component, provider, model, tier, service_tier, task_type,
    context_id, user_name AS user, operation_id, tags, input_tokens, output_tokens, cache_read_input_tokens,
    cache_creation_input_tokens, cache_creation_1h_input_tokens, reasoning_output_tokens, input_audio_tokens,
    output_audio_tokens, input_image_tokens, output_image_tokens, token_source, cost_nanos, input_cost_nanos,
    output_cost_nanos, currency, price_status, price_source, reported_cost_nanos, reported_currency, request_id, late,
    unreserved
FROM ledger
WHERE occurred_at >= $1 AND occurred_at < $2 AND ($3::text[] IS NULL OR component = ANY ($3))
    AND ($4::text[] IS NULL OR provider = ANY ($4)) AND ($5::text[] IS NULL OR model = ANY ($5))
ORDER BY occurred_at, event_id;
