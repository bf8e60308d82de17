-- name: version
SELECT version FROM catalogue;

-- name: bump
UPDATE catalogue SET version = version + 1 RETURNING version;

-- name: budgets
SELECT budget_id, name, scope, period, unit, currency, limit_amount, policy, ceiling_percent, thresholds, timezone,
       week_start, month_anchor, shadow, limit_version
FROM budget WHERE deleted_at IS NULL ORDER BY created_at, budget_id;

-- name: budget
-- $1 budget_id
SELECT budget_id, name, scope, period, unit, currency, limit_amount, policy, ceiling_percent, thresholds, timezone,
       week_start, month_anchor, shadow, limit_version
FROM budget WHERE deleted_at IS NULL AND budget_id = $1;

-- name: same
-- The budget with the same identity, if there is one.  $1 scope, $2 period, $3 unit
SELECT budget_id FROM budget WHERE deleted_at IS NULL AND scope = $1 AND period = $2 AND unit = $3;

-- name: insert
-- $1 budget_id, then the columns of a budget in the table's order
INSERT INTO budget (budget_id, name, scope, period, unit, currency, limit_amount, policy, ceiling_percent, thresholds,
                    timezone, week_start, month_anchor, shadow)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: update
-- A changed limit is a new version, for which alerts are raised anew.  Parameters as in insert
UPDATE budget SET name = $2, scope = $3, period = $4, unit = $5, currency = $6, limit_amount = $7, policy = $8,
    ceiling_percent = $9, thresholds = $10, timezone = $11, week_start = $12, month_anchor = $13, shadow = $14,
    limit_version = limit_version + CASE WHEN limit_amount = $7 THEN 0 ELSE 1 END, changed_at = clock_timestamp()
WHERE budget_id = $1;

-- name: remove
-- $1 budget_id
UPDATE budget SET deleted_at = clock_timestamp() WHERE budget_id = $1 AND deleted_at IS NULL;

-- name: drop_balances
-- Windows that a changed time zone or anchor no longer has are born anew.  $1 budget_id
DELETE FROM balance WHERE budget_id = $1;

-- name: audit
-- $1 change_id, $2 kind, $3 before, $4 after, $5 actor, $6 at
INSERT INTO change (change_id, kind, before, after, actor, at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: config
-- $1 key
SELECT value FROM config WHERE key = $1;

-- name: set_config
-- $1 key, $2 value
INSERT INTO config (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value;
