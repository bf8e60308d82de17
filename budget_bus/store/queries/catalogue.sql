-- name: version
SELECT version FROM catalogue;

-- name: bump
UPDATE catalogue SET version = version + 1 RETURNING version;

-- name: budgets
SELECT budget_id, name, scope, period, unit, currency, limit_amount, policy, ceiling_percent, thresholds, timezone,
       week_start, month_anchor, shadow, parent_id, percent, rollover_cap, rollover_since, context_ttl_s,
       critical_may_pass, alert_on, limit_version
FROM budget WHERE deleted_at IS NULL ORDER BY created_at, budget_id;

-- name: insert
-- $1 budget_id, then the columns of a budget in the table's order
INSERT INTO budget (budget_id, name, scope, period, unit, currency, limit_amount, policy, ceiling_percent, thresholds,
                    timezone, week_start, month_anchor, shadow, parent_id, percent, rollover_cap, context_ttl_s,
                    critical_may_pass, alert_on, rollover_since)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
        CASE WHEN $17::bigint IS NOT NULL THEN $21::timestamptz END);

-- name: update
-- Parameters as in insert
UPDATE budget SET name = $2, scope = $3, period = $4, unit = $5, currency = $6, limit_amount = $7, policy = $8,
    ceiling_percent = $9, thresholds = $10, timezone = $11, week_start = $12, month_anchor = $13, shadow = $14,
    parent_id = $15, percent = $16, rollover_cap = $17, context_ttl_s = $18, critical_may_pass = $19, alert_on = $20,
    rollover_since = CASE WHEN $17::bigint IS NOT NULL THEN coalesce(rollover_since, $21) END,
    changed_at = clock_timestamp()
WHERE budget_id = $1;

-- name: renew
-- A changed limit, its own or its parent's, is a new version, of which alerts are raised anew.  $1 budget_id
WITH RECURSIVE family AS (
    SELECT budget_id FROM budget WHERE budget_id = $1
    UNION SELECT b.budget_id FROM budget b JOIN family f ON b.parent_id = f.budget_id
)
UPDATE budget SET limit_version = limit_version + 1 WHERE budget_id IN (SELECT budget_id FROM family);

-- name: raises
-- Of budgets in force; also those that have ended, which past windows had.
SELECT r.raise_id, r.budget_id, r.amount, r.starts_at, r.ends_at, r.reason
FROM limit_raise r JOIN budget b USING (budget_id) WHERE b.deleted_at IS NULL ORDER BY r.starts_at, r.raise_id;

-- name: insert_raise
-- $1 raise_id, $2 budget_id, $3 amount, $4 starts_at, $5 ends_at, $6 reason, $7 actor
INSERT INTO limit_raise (raise_id, budget_id, amount, starts_at, ends_at, reason, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: end_raises
-- $1 budget_id, $2 at
UPDATE limit_raise SET ends_at = greatest(starts_at, $2) WHERE budget_id = $1 AND ends_at > $2;

-- name: remove
-- $1 budget_id
UPDATE budget SET deleted_at = clock_timestamp() WHERE budget_id = $1 AND deleted_at IS NULL;

-- name: drop_balances
-- Windows that a changed time zone or anchor no longer has are born anew.  $1 budget_id
DELETE FROM balance WHERE budget_id = $1;

-- name: audit
-- No row comes back of a change that was noted before.
-- $1 change_id, $2 kind, $3 before, $4 after, $5 actor, $6 at
INSERT INTO change (change_id, kind, before, after, actor, at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (change_id) DO NOTHING RETURNING change_id;

-- name: config
-- $1 key
SELECT value FROM config WHERE key = $1;

-- name: set_config
-- $1 key, $2 value
INSERT INTO config (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value;
