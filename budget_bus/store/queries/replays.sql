-- name: span
-- From which place in the order to before which one the things happened that [$1, $2) saw.
SELECT min(seq) AS first, max(seq) + 1 AS after FROM (
    SELECT seq FROM decision WHERE decided_at >= $1 AND decided_at < $2 AND action <> 'released'
    UNION ALL
    SELECT seq FROM movement WHERE at >= $1 AND at < $2
) AS places;

-- name: cuts
-- Per partition of usage the first offset whose place is kept, and the first one that was booked at place $1 or later.
SELECT topic, part, min(from_offset) AS kept_from, min(from_offset) FILTER (WHERE seq >= $1) AS cut
FROM movement WHERE kind = 'settled' GROUP BY topic, part;

-- name: count
-- How many events and decisions [$1, $2) has.
SELECT (SELECT count(*) FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2)
     + (SELECT count(*) FROM decision WHERE decided_at >= $1 AND decided_at < $2 AND action <> 'released');

-- name: events
-- Ledger rows that occurred in [$1, $2) or were booked at a place in [$3, $4), in their order, for a cursor. `phase`: -1
-- booked before, 0 booked by a release that kept no order, 1 in the order, 2 booked later.  $5 whether in order of time
WITH noted AS (
    SELECT min(noted_at) - interval '1 hour' AS since, max(noted_at) AS upto FROM movement WHERE seq >= $3 AND seq < $4
)
SELECT l.*, CASE WHEN l.seq IS NULL THEN 0 WHEN l.seq < $3 THEN -1 WHEN l.seq < $4 THEN 1 ELSE 2 END AS phase
FROM (
    SELECT event_id, occurred_at, accounted_at, component, provider, model, tier, service_tier, task_type, context_id,
        user_name, tags, input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens,
        cache_creation_1h_input_tokens, reasoning_output_tokens, input_audio_tokens, output_audio_tokens,
        input_image_tokens, output_image_tokens, cost_nanos, currency, request_id, record_offset, part, (
            SELECT m.seq FROM movement m
            WHERE m.kind = 'settled' AND m.topic = r.topic AND m.part = r.part AND m.from_offset <= r.record_offset
            ORDER BY m.from_offset DESC LIMIT 1
        ) AS seq
    FROM ledger r
    WHERE occurred_at >= $1 AND occurred_at < $2
       OR recorded_at >= (SELECT since FROM noted) AND recorded_at <= (SELECT upto FROM noted)
) AS l
WHERE occurred_at >= $1 AND occurred_at < $2 OR seq >= $3 AND seq < $4
ORDER BY CASE WHEN $5 THEN occurred_at END, phase, CASE WHEN l.seq >= $3 AND l.seq < $4 THEN l.seq END, occurred_at, part, record_offset;

-- name: decisions
-- Decisions at places in [$3, $4), and those of [$1, $2) that have none, in their order, for a cursor.  $5 as in events
SELECT d.request_id, d.seq, d.decided_at, d.component, d.provider, d.model, d.action, d.answer, d.asked,
    h.tier, h.task_type, h.context_id, h.user_name, h.tags, h.cost_nanos, h.tokens, h.currency, h.lease
FROM decision d LEFT JOIN hold h USING (request_id)
WHERE d.action <> 'released'
  AND d.decided_at >= $1::timestamptz - interval '1 hour' AND d.decided_at < $2::timestamptz + interval '1 hour'
  AND (d.seq >= $3 AND d.seq < $4 OR d.seq IS NULL AND d.decided_at >= $1 AND d.decided_at < $2)
ORDER BY CASE WHEN $5 THEN d.decided_at END, d.seq NULLS FIRST, d.decided_at, d.request_id;

-- name: movements
-- What else moved balances at places in [$1, $2), in their order, for a cursor.  $3 as in events
SELECT m.seq, m.kind, m.at, m.request_id, m.cost_nanos, m.tokens, m.calls, b.budget_id, b.context_id, b.window_start,
    b.window_end
FROM movement m LEFT JOIN balance b USING (balance_id)
WHERE m.seq >= $1 AND m.seq < $2 AND m.kind <> 'settled' ORDER BY CASE WHEN $3 THEN m.at END, m.seq;

-- name: open_holds
-- Holds that may have been open or unconfirmed before place $1, with where they ended.  $2 the begin by time, $3 whether
-- there is such a place
WITH noted AS (SELECT min(noted_at) - interval '1 hour' AS since FROM movement WHERE seq >= $1)
SELECT h.request_id, h.state, h.component, h.provider, h.model, h.tier, h.task_type, h.context_id, h.user_name, h.tags,
    h.cost_nanos, h.tokens, h.currency, h.lease, h.calls, h.decided_at, d.asked, d.answer, l.topic, l.part,
    l.record_offset, (SELECT min(seq) FROM movement m WHERE m.request_id = h.request_id AND m.kind = 'voided') AS voided,
    (SELECT min(seq) FROM movement m WHERE m.request_id = h.request_id AND m.kind = 'expired') AS expired
FROM hold h JOIN decision d USING (request_id) LEFT JOIN ledger l ON l.event_id = h.event_id
WHERE (CASE WHEN d.seq IS NULL OR NOT $3 THEN h.decided_at < $2 ELSE d.seq < $1 END)
  AND (h.state IN ('open', 'unconfirmed') OR h.closed_at >= (SELECT since FROM noted))
ORDER BY h.decided_at, h.request_id;

-- name: taken
-- What was taken of leases before place $1, in order.  $2 request_ids, $3 decided no earlier than
SELECT request_id, cost_nanos, tokens, calls FROM (
    SELECT r.request_id, r.cost_nanos, r.input_tokens + r.output_tokens AS tokens, 1::bigint AS calls, (
        SELECT m.seq FROM movement m
        WHERE m.kind = 'settled' AND m.topic = r.topic AND m.part = r.part AND m.from_offset <= r.record_offset
        ORDER BY m.from_offset DESC LIMIT 1
    ) AS seq
    FROM ledger r WHERE r.accounted_at >= $3 AND r.request_id = ANY ($2)
    UNION ALL
    SELECT request_id, cost_nanos, tokens, calls, seq FROM movement WHERE kind = 'given_back' AND request_id = ANY ($2)
) AS parts
WHERE coalesce(seq, 0) < $1 ORDER BY seq NULLS FIRST;

-- name: sums
-- What a window had taken before a place: as ledger_sums, of the rows that were booked before.  $1 to $11 as there,
-- $12 the currency that costs are counted in, or null, $13 topics, $14 parts, $15 from which offset places are kept,
-- $16 which offset is the first behind the place; $17 rows without a place count if they occurred before
SELECT CASE WHEN $3 THEN component END AS component, CASE WHEN $4 THEN provider END AS provider,
       CASE WHEN $5 THEN model END AS model, CASE WHEN $6 THEN tier END AS tier,
       CASE WHEN $7 THEN task_type END AS task_type, CASE WHEN $8 THEN context_id END AS context_id,
       CASE WHEN $9 THEN user_name END AS user_name, CASE WHEN $10 THEN tags END AS tags,
       count(*)::bigint AS requests, sum(input_tokens + output_tokens)::bigint AS tokens,
       coalesce(sum(CASE WHEN l.currency = $12 THEN cost_nanos
                         WHEN cost_nanos IS NOT NULL AND $12::text IS NOT NULL THEN coalesce(exchanged(
                             cost_nanos, per_eur_on(l.currency, (accounted_at AT TIME ZONE 'UTC')::date),
                             per_eur_on($12, (accounted_at AT TIME ZONE 'UTC')::date)), 0) END), 0)::bigint AS cost
FROM ledger l LEFT JOIN unnest($13::text[], $14::int[], $15::bigint[], $16::bigint[]) AS c (topic, part, kept_from, cut)
    ON c.topic = l.topic AND c.part = l.part
WHERE accounted_at >= $1 AND ($2::timestamptz IS NULL OR accounted_at < $2) AND ($11 = '' OR context_id = $11)
  AND CASE WHEN c.kept_from IS NULL OR record_offset < c.kept_from THEN occurred_at < $17
           ELSE c.cut IS NULL OR record_offset < c.cut END
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;

-- name: windows
-- The windows of budgets that were used, in order.  $1 budget_ids, $2 those that end after; $3 from which place on a
-- carried amount was not yet there
SELECT b.budget_id, b.context_id, b.window_start, b.window_end, b.carried_out,
    EXISTS (SELECT FROM movement m WHERE m.kind = 'carried' AND m.balance_id = b.balance_id AND m.seq >= $3) AS later,
    b.carried_in
FROM balance b WHERE b.budget_id = ANY ($1) AND (b.window_end IS NULL OR b.window_end > $2)
ORDER BY b.budget_id, b.context_id, b.window_start;

-- name: changed_budgets
-- Whether limits were changed in [$1, $2).
SELECT count(*) FROM change WHERE kind IN ('limit', 'allocation', 'config') AND at >= $1 AND at < $2;
