-- name: lock
-- One restatement at a time; held until the connection gives it back.  $1 lock
SELECT pg_try_advisory_lock($1);

-- name: unlock
SELECT pg_advisory_unlock($1);

-- name: buckets
-- How many rows a range has, by quarter of an hour.  $1 from or null, $2 to or null, $3 provider or null, $4 model or null
SELECT bucket_start, sum(requests)::bigint AS requests FROM rollup
WHERE ($1::timestamptz IS NULL OR bucket_start > $1::timestamptz - interval '15 minutes')
  AND ($2::timestamptz IS NULL OR bucket_start < $2) AND ($3::text IS NULL OR provider = $3)
  AND ($4::text IS NULL OR model = $4)
GROUP BY 1 HAVING sum(requests) > 0 ORDER BY 1;

-- name: rows
-- The next rows of a slice.  $1 from, $2 to, $3 provider or null, $4 model or null, $5 after this occurred_at, $6 and
-- this event_id, $7 how many
SELECT event_id, occurred_at, accounted_at, component, provider, model, tier, service_tier, task_type, context_id,
       user_name, tags, input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens,
       reasoning_output_tokens, input_audio_tokens, output_audio_tokens, cache_creation_1h_input_tokens,
       input_image_tokens, output_image_tokens, cost_nanos, input_cost_nanos, output_cost_nanos, currency,
       price_status, price_source, late
FROM ledger
WHERE occurred_at >= $1 AND occurred_at < $2 AND ($3::text IS NULL OR provider = $3)
  AND ($4::text IS NULL OR model = $4) AND (occurred_at, event_id) > ($5, $6)
ORDER BY occurred_at, event_id LIMIT $7;

-- name: unpriced_rows
-- As rows, of those without a price.
SELECT event_id, occurred_at, accounted_at, component, provider, model, tier, service_tier, task_type, context_id,
       user_name, tags, input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens,
       reasoning_output_tokens, input_audio_tokens, output_audio_tokens, cache_creation_1h_input_tokens,
       input_image_tokens, output_image_tokens, cost_nanos, input_cost_nanos, output_cost_nanos, currency,
       price_status, price_source, late
FROM ledger
WHERE cost_nanos IS NULL AND occurred_at >= $1 AND occurred_at < $2 AND ($3::text IS NULL OR provider = $3)
  AND ($4::text IS NULL OR model = $4) AND (occurred_at, event_id) > ($5, $6)
ORDER BY occurred_at, event_id LIMIT $7;

-- name: running
-- A restatement of the same rows that did not come to its end.  $1 only_unpriced, $2 from, $3 to, $4 provider, $5 model
SELECT restatement_id, prices_version, cursor_at, cursor_id, rows_changed FROM restatement
WHERE state = 'running' AND only_unpriced = $1 AND from_at IS NOT DISTINCT FROM $2 AND to_at IS NOT DISTINCT FROM $3
  AND provider IS NOT DISTINCT FROM $4 AND model IS NOT DISTINCT FROM $5
ORDER BY started_at LIMIT 1;

-- name: begin
-- $1 restatement_id, $2 only_unpriced, $3 from, $4 to, $5 provider, $6 model, $7 actor, $8 reason, $9 prices_version
INSERT INTO restatement (restatement_id, only_unpriced, from_at, to_at, provider, model, actor, reason, state,
                         prices_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running', $9);

-- name: make_table
-- What a chunk changes, copied in one go; empty again after each transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS restating (
    event_id uuid, cost_nanos bigint, input_cost_nanos bigint, output_cost_nanos bigint, currency text,
    price_status text, price_source text, was_cost bigint, was_input_cost bigint, was_output_cost bigint,
    was_currency text, was_status text, was_source text
) ON COMMIT DELETE ROWS;

-- name: keep_old
-- What rows cost before; of a row that is restated twice by one restatement, the first.  $1 restatement_id
INSERT INTO restated (restatement_id, event_id, cost_nanos, input_cost_nanos, output_cost_nanos, currency, price_status,
                      price_source)
SELECT $1, event_id, was_cost, was_input_cost, was_output_cost, was_currency, was_status, was_source FROM restating
ON CONFLICT (restatement_id, event_id) DO NOTHING;

-- name: restate
UPDATE ledger l SET cost_nanos = u.cost_nanos, input_cost_nanos = u.input_cost_nanos,
    output_cost_nanos = u.output_cost_nanos, currency = u.currency, price_status = u.price_status,
    price_source = u.price_source
FROM restating u WHERE l.event_id = u.event_id;

-- name: add_restated
-- By how much a chunk moved the costs of each bucket; keys in order.  $1 to $9 the key, $10 nanos
INSERT INTO restated_rollup AS r
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[])
ON CONFLICT (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency) DO UPDATE SET
    moved_nanos = r.moved_nanos + excluded.moved_nanos;

-- name: summarize
-- Rows that moved to new pages are found by their time only once these are summarized; else each scan reads them all.
SELECT brin_summarize_new_values('ledger_occurred'), brin_summarize_new_values('ledger_accounted');

-- name: moved_windows
-- $1 restatement_id, $2 balance_ids, $3 by how much
INSERT INTO restated_window AS w (restatement_id, balance_id, moved)
SELECT $1, * FROM unnest($2::bigint[], $3::bigint[])
ON CONFLICT (restatement_id, balance_id) DO UPDATE SET moved = w.moved + excluded.moved;

-- name: advance
-- $1 restatement_id, $2 prices_version, $3 cursor_at, $4 cursor_id, $5 rows changed, $6 nanos moved
UPDATE restatement SET prices_version = $2, cursor_at = $3, cursor_id = $4, rows_changed = rows_changed + $5,
    moved_nanos = moved_nanos + $6::bigint
WHERE restatement_id = $1;

-- name: windows
-- The windows that a restatement moved.  $1 restatement_id
SELECT balance_id, moved FROM restated_window WHERE restatement_id = $1 AND moved <> 0 ORDER BY balance_id;

-- name: finish
-- $1 restatement_id
UPDATE restatement SET state = 'done', finished_at = clock_timestamp() WHERE restatement_id = $1
RETURNING restatement_id, only_unpriced, from_at, to_at, provider, model, reason, rows_changed, moved_nanos;
