-- What reports tell beyond requests, tokens and cost: cached tokens, late events, restated amounts; and reports that are
-- due again and again.

-- Defaults, so that a settler of the release before writes its rollups as it did.
ALTER TABLE rollup
    ADD COLUMN cache_read_input_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN late_requests           bigint NOT NULL DEFAULT 0,
    ADD COLUMN late_cost_nanos         bigint NOT NULL DEFAULT 0;

UPDATE rollup r SET cache_read_input_tokens = l.cache_read, late_requests = l.requests, late_cost_nanos = l.cost
FROM (
    SELECT date_bin('15 minutes', occurred_at, timestamptz '2000-01-01 00:00:00+00') AS bucket_start, component,
           provider, model, tier, coalesce(task_type, '') AS task_type, coalesce(user_name, '') AS user_name,
           coalesce(context_id, '') AS context_id, currency, sum(cache_read_input_tokens) AS cache_read,
           count(*) FILTER (WHERE late) AS requests, coalesce(sum(cost_nanos) FILTER (WHERE late), 0) AS cost
    FROM ledger WHERE cache_read_input_tokens > 0 OR late
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
) l
WHERE (r.bucket_start, r.component, r.provider, r.model, r.tier, r.task_type, r.user_name, r.context_id, r.currency)
    = (l.bucket_start, l.component, l.provider, l.model, l.tier, l.task_type, l.user_name, l.context_id, l.currency);

-- By how much restating moved the costs of a bucket. Apart from the rollups, which can be made anew from the ledger
-- alone; this needs what rows cost before.
CREATE TABLE restated_rollup (
    bucket_start timestamptz NOT NULL,
    component    text        NOT NULL,
    provider     text        NOT NULL,
    model        text        NOT NULL,
    tier         text        NOT NULL,
    task_type    text        NOT NULL,
    user_name    text        NOT NULL,
    context_id   text        NOT NULL,
    currency     text        NOT NULL,
    moved_nanos  bigint      NOT NULL,
    PRIMARY KEY (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency)
);

-- Of a row that was restated more than once, what it cost at first: the steps between cancel out.
INSERT INTO restated_rollup
SELECT date_bin('15 minutes', l.occurred_at, timestamptz '2000-01-01 00:00:00+00'), l.component, l.provider, l.model,
       l.tier, coalesce(l.task_type, ''), coalesce(l.user_name, ''), coalesce(l.context_id, ''), moved.currency,
       sum(moved.nanos)
FROM (
    SELECT DISTINCT ON (s.event_id) s.event_id, s.currency, s.cost_nanos
    FROM restated s JOIN restatement USING (restatement_id) ORDER BY s.event_id, started_at
) first
JOIN ledger l USING (event_id)
CROSS JOIN LATERAL (VALUES (l.currency, coalesce(l.cost_nanos, 0)), (first.currency, -coalesce(first.cost_nanos, 0)))
    AS moved (currency, nanos)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(moved.nanos) <> 0;

CREATE TABLE report_schedule (
    schedule_id uuid        PRIMARY KEY,
    name        text        NOT NULL,
    every       text        NOT NULL CHECK (every IN ('daily', 'weekly', 'monthly')),
    at_time     time        NOT NULL,  -- of the zone's clock
    timezone    text        NOT NULL,
    query       jsonb       NOT NULL,  -- of GET /api/reports/summary, without the span
    file_name   text,                  -- below BUDGET_REPORTS_DIR
    webhook     text,                  -- an address; it may be a secret, so only its host is shown
    due_at      timestamptz NOT NULL,  -- the next one, or the one that is tried again
    attempt_at  timestamptz NOT NULL,  -- not before this
    attempts    int         NOT NULL DEFAULT 0,  -- of the one that is due
    last_due_at timestamptz,           -- the last one that was delivered
    last_error  text,                  -- of the last attempt; null: it went well
    actor       text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((file_name IS NULL) <> (webhook IS NULL))
);
CREATE INDEX report_schedule_next ON report_schedule (attempt_at);
