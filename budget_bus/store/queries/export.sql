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

-- name: lines
-- The same rows for COPY as CSV, which only has to quote them. COPY takes its parameters as text, so none may be named in
-- a comment: what a caller sends could go on behind the comment's end. Names that a spreadsheet would run as a formula
-- (they begin with a tab, a line's end, + - = or @) are marked as text, as `spreadsheet_text` does.
SELECT event_id,
    to_char(occurred_at AT TIME ZONE 'UTC', CASE WHEN occurred_at = date_trunc('second', occurred_at)
        THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END),
    to_char(accounted_at AT TIME ZONE 'UTC', CASE WHEN accounted_at = date_trunc('second', accounted_at)
        THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END),
    to_char(recorded_at AT TIME ZONE 'UTC', CASE WHEN recorded_at = date_trunc('second', recorded_at)
        THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END),
    CASE WHEN ascii(component) IN (9, 13, 43, 45, 61, 64) THEN '''' || component ELSE component END,
    CASE WHEN ascii(provider) IN (9, 13, 43, 45, 61, 64) THEN '''' || provider ELSE provider END,
    CASE WHEN ascii(model) IN (9, 13, 43, 45, 61, 64) THEN '''' || model ELSE model END,
    CASE WHEN ascii(tier) IN (9, 13, 43, 45, 61, 64) THEN '''' || tier ELSE tier END,
    service_tier,
    CASE WHEN ascii(task_type) IN (9, 13, 43, 45, 61, 64) THEN '''' || task_type ELSE task_type END,
    CASE WHEN ascii(context_id) IN (9, 13, 43, 45, 61, 64) THEN '''' || context_id ELSE context_id END,
    CASE WHEN ascii(user_name) IN (9, 13, 43, 45, 61, 64) THEN '''' || user_name ELSE user_name END,
    CASE WHEN ascii(operation_id) IN (9, 13, 43, 45, 61, 64) THEN '''' || operation_id ELSE operation_id END,
    CASE WHEN tags <> '{}' THEN (SELECT '{' || string_agg(to_json(key)::text || ':' || value::text, ',') || '}'
        FROM jsonb_each(tags)) END,
    input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, cache_creation_1h_input_tokens,
    reasoning_output_tokens, input_audio_tokens, output_audio_tokens, input_image_tokens, output_image_tokens,
    token_source, trim_scale(cost_nanos * 0.000000001), trim_scale(input_cost_nanos * 0.000000001),
    trim_scale(output_cost_nanos * 0.000000001), currency, price_status,
    CASE WHEN ascii(price_source) IN (9, 13, 43, 45, 61, 64) THEN '''' || price_source
        ELSE nullif(price_source, '') END,
    trim_scale(reported_cost_nanos * 0.000000001), reported_currency, request_id, late::text, unreserved::text
FROM ledger
WHERE occurred_at >= $1 AND occurred_at < $2 AND ($3::text[] IS NULL OR component = ANY ($3))
    AND ($4::text[] IS NULL OR provider = ANY ($4)) AND ($5::text[] IS NULL OR model = ANY ($5))
ORDER BY occurred_at, event_id;
