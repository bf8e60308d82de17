-- name: count
-- How many events occurred in [$1, $2).
SELECT count(*) FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2;

-- name: used
-- Ledger rows of [$1, $2) in the order they occurred, for a cursor.
SELECT occurred_at, component, provider, model, tier, service_tier, task_type, context_id, user_name, tags,
    input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, cache_creation_1h_input_tokens,
    reasoning_output_tokens, input_audio_tokens, output_audio_tokens, input_image_tokens, output_image_tokens,
    cost_nanos, currency
FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2 ORDER BY occurred_at, event_id;
