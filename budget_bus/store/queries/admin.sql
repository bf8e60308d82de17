-- name: balances
-- Every balance with its budget; one of a removed budget holds no promise on spent.
SELECT l.balance_id, l.context_id, l.window_start, l.window_end, l.spent, l.held, l.unconfirmed, b.deleted_at IS NULL AS in_force,
       b.budget_id, b.name, b.scope, b.period, b.unit, b.currency, b.limit_amount, b.policy, b.ceiling_percent,
       b.thresholds, b.timezone, b.week_start, b.month_anchor, b.shadow, b.parent_id, b.percent, b.rollover_cap,
       b.rollover_since, b.context_ttl_s, b.critical_may_pass, b.alert_on, b.limit_version
FROM balance l JOIN budget b USING (budget_id)
ORDER BY l.balance_id;

-- name: held_amounts
-- What the holds say that each balance is charged with.
SELECT a.balance_id, coalesce(sum(a.amount) FILTER (WHERE h.state = 'open'), 0)::bigint AS held,
       coalesce(sum(a.amount) FILTER (WHERE h.state = 'unconfirmed'), 0)::bigint AS unconfirmed
FROM hold h, LATERAL unnest(h.balance_ids, h.amounts) AS a (balance_id, amount)
WHERE h.state IN ('open', 'unconfirmed')
GROUP BY a.balance_id;

-- name: days
-- The UTC days of which the ledger or the rollups have rows.
SELECT date_bin('1 day', occurred_at, timestamptz '2000-01-01 00:00:00+00') AS day FROM ledger
UNION
SELECT date_bin('1 day', bucket_start, timestamptz '2000-01-01 00:00:00+00') FROM rollup
UNION
SELECT date_bin('1 day', bucket_start, timestamptz '2000-01-01 00:00:00+00') FROM rollup_hour
ORDER BY day;

-- name: rollup_differences
-- Where the rollups of a day are not the sums of its ledger rows.  $1 day start, $2 day end, $3 how many at most
WITH summed AS (
    SELECT date_bin('15 minutes', occurred_at, timestamptz '2000-01-01 00:00:00+00') AS bucket_start, component,
           provider, model, tier, coalesce(task_type, '') AS task_type, coalesce(user_name, '') AS user_name,
           coalesce(context_id, '') AS context_id, currency,
           ARRAY[count(*), sum(input_tokens), sum(output_tokens), coalesce(sum(cost_nanos), 0),
                 count(*) FILTER (WHERE cost_nanos IS NULL),
                 coalesce(sum(input_tokens + output_tokens) FILTER (WHERE cost_nanos IS NULL), 0),
                 sum(cache_read_input_tokens), count(*) FILTER (WHERE late),
                 coalesce(sum(cost_nanos) FILTER (WHERE late), 0)]::bigint[] AS sums
    FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), kept AS (
    SELECT bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
           ARRAY[requests, input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens,
                 cache_read_input_tokens, late_requests, late_cost_nanos] AS sums
    FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2
)
SELECT bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
       coalesce(summed.sums, '{0,0,0,0,0,0,0,0,0}') AS expected_sums, coalesce(kept.sums, '{0,0,0,0,0,0,0,0,0}') AS kept_sums
FROM summed FULL JOIN kept
    USING (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency)
-- A bucket without requests is the same as none.
WHERE coalesce(summed.sums, '{0,0,0,0,0,0,0,0,0}') <> coalesce(kept.sums, '{0,0,0,0,0,0,0,0,0}')
ORDER BY bucket_start, component, provider, model LIMIT $3;

-- name: hour_differences
-- Where the hours of a day are not the sums of its rollups.  $1 day start, $2 day end, $3 how many at most
WITH summed AS (
    SELECT hour_of(bucket_start) AS bucket_start, component, provider, model, tier, task_type, user_name, context_id,
           currency, ARRAY[sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nanos), sum(unpriced_requests),
                           sum(unpriced_tokens), sum(cache_read_input_tokens), sum(late_requests),
                           sum(late_cost_nanos)]::bigint[] AS sums
    FROM rollup WHERE bucket_start >= $1 AND bucket_start < least($2, (SELECT hours_until FROM rollup_folded))
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), kept AS (
    SELECT bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
           ARRAY[requests, input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens,
                 cache_read_input_tokens, late_requests, late_cost_nanos] AS sums
    FROM rollup_hour WHERE bucket_start >= $1 AND bucket_start < $2
)
SELECT bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
       coalesce(summed.sums, '{0,0,0,0,0,0,0,0,0}') AS expected_sums, coalesce(kept.sums, '{0,0,0,0,0,0,0,0,0}') AS kept_sums
FROM summed FULL JOIN kept
    USING (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency)
WHERE coalesce(summed.sums, '{0,0,0,0,0,0,0,0,0}') <> coalesce(kept.sums, '{0,0,0,0,0,0,0,0,0}')
ORDER BY bucket_start, component, provider, model LIMIT $3;

-- name: hold_page
-- The last of the next holds.  $1 after this request_id, $2 how many
SELECT max(request_id::text)::uuid AS last, count(*) AS found
FROM (SELECT request_id FROM hold WHERE request_id > $1 ORDER BY request_id LIMIT $2) AS page;

-- name: hold_differences
-- Holds of a page that no event of the ledger settled, though they say so.  $1 after this request_id, $2 up to this one
SELECT h.request_id, h.event_id, l.request_id AS settled FROM hold h LEFT JOIN ledger l ON l.event_id = h.event_id
WHERE h.request_id > $1 AND h.request_id <= $2 AND h.state = 'settled' AND NOT h.lease
  AND l.request_id IS DISTINCT FROM h.request_id
ORDER BY h.request_id;

-- name: settling_differences
-- Events of a day that settled a hold which does not say so.  $1 day start, $2 day end, $3 how many at most
SELECT l.event_id, l.request_id, h.state, h.event_id AS settled_by FROM ledger l LEFT JOIN hold h USING (request_id)
WHERE l.occurred_at >= $1 AND l.occurred_at < $2 AND l.request_id IS NOT NULL
  AND (h.request_id IS NULL OR NOT h.lease AND (h.state <> 'settled' OR h.event_id IS DISTINCT FROM l.event_id))
ORDER BY l.event_id LIMIT $3;

-- name: positions
-- How far each partition of a topic is applied.  $1 topic
SELECT part, next_offset FROM bus_offset WHERE topic = $1;

-- name: accept_loss
-- Only as long as nobody has moved the offset; a new epoch fences whoever owns the partition.
-- $1 topic, $2 part, $3 the offset expected until now, $4 the log's beginning
UPDATE bus_offset SET next_offset = $4, owner_epoch = owner_epoch + 1
WHERE topic = $1 AND part = $2 AND next_offset = $3;

-- name: where_recorded
-- Which record of the log made each ledger row.  $1 event_ids
SELECT event_id, digest, topic, part, record_offset, cost_nanos, currency FROM ledger WHERE event_id = ANY ($1);

-- name: balance
-- One balance with its budget, as in balances.  $1 balance_id
SELECT l.balance_id, l.context_id, l.window_start, l.window_end, l.spent, l.held, l.unconfirmed, b.deleted_at IS NULL AS in_force,
       b.budget_id, b.name, b.scope, b.period, b.unit, b.currency, b.limit_amount, b.policy, b.ceiling_percent,
       b.thresholds, b.timezone, b.week_start, b.month_anchor, b.shadow, b.parent_id, b.percent, b.rollover_cap,
       b.rollover_since, b.context_ttl_s, b.critical_may_pass, b.alert_on, b.limit_version
FROM balance l JOIN budget b USING (budget_id) WHERE l.balance_id = $1;

-- name: held_amount
-- What the holds say that one balance is charged with.  $1 balance_id
SELECT coalesce(sum(a.amount) FILTER (WHERE h.state = 'open'), 0)::bigint AS held,
       coalesce(sum(a.amount) FILTER (WHERE h.state = 'unconfirmed'), 0)::bigint AS unconfirmed
FROM hold h, LATERAL unnest(h.balance_ids, h.amounts) AS a (balance_id, amount)
WHERE h.state IN ('open', 'unconfirmed') AND a.balance_id = $1;

-- name: drop_rollups
-- $1 day start, $2 day end
WITH hours AS (DELETE FROM rollup_hour WHERE bucket_start >= $1 AND bucket_start < $2)
DELETE FROM rollup WHERE bucket_start >= $1 AND bucket_start < $2;

-- name: rebuild_rollups
-- $1 day start, $2 day end
INSERT INTO rollup (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency,
                    requests, input_tokens, output_tokens, cost_nanos, unpriced_requests, unpriced_tokens,
                    cache_read_input_tokens, late_requests, late_cost_nanos)
SELECT date_bin('15 minutes', occurred_at, timestamptz '2000-01-01 00:00:00+00'), component, provider, model, tier,
       coalesce(task_type, ''), coalesce(user_name, ''), coalesce(context_id, ''), currency, count(*),
       sum(input_tokens), sum(output_tokens), coalesce(sum(cost_nanos), 0), count(*) FILTER (WHERE cost_nanos IS NULL),
       coalesce(sum(input_tokens + output_tokens) FILTER (WHERE cost_nanos IS NULL), 0), sum(cache_read_input_tokens),
       count(*) FILTER (WHERE late), coalesce(sum(cost_nanos) FILTER (WHERE late), 0)
FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: rebuild_hours
-- $1 day start, $2 day end
INSERT INTO rollup_hour
SELECT hour_of(bucket_start), component, provider, model, tier, task_type, user_name, context_id, currency,
       sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nanos), sum(unpriced_requests),
       sum(unpriced_tokens), sum(cache_read_input_tokens), sum(late_requests), sum(late_cost_nanos)
FROM rollup WHERE bucket_start >= $1 AND bucket_start < least($2, (SELECT hours_until FROM rollup_folded))
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
