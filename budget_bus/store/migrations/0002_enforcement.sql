-- Allocations, rollover, raises, budgets per context, critical calls, alerts that recover, leases.

ALTER TABLE budget
    ALTER COLUMN limit_amount DROP NOT NULL,  -- null: an allocation, whose limit follows its parent's
    ADD COLUMN parent_id uuid REFERENCES budget,
    ADD COLUMN percent numeric(7, 4) CHECK (percent BETWEEN 0 AND 100),
    ADD COLUMN rollover_cap bigint CHECK (rollover_cap >= 0),  -- the most that a window hands on to the next; null: nothing
    ADD COLUMN rollover_since timestamptz,  -- windows that ended before hand on nothing
    ADD COLUMN context_ttl_s int CHECK (context_ttl_s > 0),  -- how long a context's window is, from its first call
    ADD COLUMN critical_may_pass boolean NOT NULL DEFAULT false,
    ADD COLUMN alert_on text[] NOT NULL DEFAULT '{spent}',
    DROP CONSTRAINT budget_period_check,
    ADD CONSTRAINT budget_period_check
        CHECK (period IN ('hourly', 'daily', 'weekly', 'monthly', 'total', 'per_context')),
    ADD CONSTRAINT budget_allocation_check
        CHECK ((limit_amount IS NULL) = (parent_id IS NOT NULL) AND (parent_id IS NULL) = (percent IS NULL)),
    ADD CONSTRAINT budget_context_check CHECK ((period = 'per_context') = (context_ttl_s IS NOT NULL)),
    ADD CONSTRAINT budget_rollover_check CHECK ((rollover_cap IS NULL) = (rollover_since IS NULL));

-- What a limit is raised by for a time; it ends by itself.
CREATE TABLE limit_raise (
    raise_id   uuid        PRIMARY KEY,
    budget_id  uuid        NOT NULL REFERENCES budget,
    amount     bigint      NOT NULL CHECK (amount > 0),
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL CHECK (ends_at >= starts_at),
    reason     text,
    actor      text        NOT NULL
);
CREATE INDEX limit_raise_of_budget ON limit_raise (budget_id, ends_at);

ALTER TABLE balance
    ADD COLUMN context_id text NOT NULL DEFAULT '',  -- of a per_context budget: whose window this is
    ADD COLUMN carried_in bigint NOT NULL DEFAULT 0 CHECK (carried_in >= 0),    -- handed on by the windows before
    ADD COLUMN carried_out bigint NOT NULL DEFAULT 0 CHECK (carried_out >= 0),  -- handed on to a later window
    -- The highest thresholds reached, for alert_version of the limit: what a change is compared with.
    ADD COLUMN alert_version int NOT NULL DEFAULT 0,
    ADD COLUMN spent_reached int NOT NULL DEFAULT 0,
    ADD COLUMN committed_reached int NOT NULL DEFAULT 0,
    DROP CONSTRAINT balance_budget_id_window_start_key,
    ADD CONSTRAINT balance_place UNIQUE (budget_id, context_id, window_start);

CREATE INDEX balance_running ON balance (budget_id, window_end) WHERE context_id <> '';

ALTER TABLE alert
    ADD COLUMN context_id text NOT NULL DEFAULT '',
    DROP CONSTRAINT alert_budget_id_window_start_threshold_percent_limit_versio_key,
    ADD CONSTRAINT alert_once UNIQUE (budget_id, context_id, window_start, threshold_percent, limit_version, kind);

-- A lease is a hold that many events settle bit by bit: cost_nanos, tokens and calls are what is left of it.
ALTER TABLE hold
    ADD COLUMN lease boolean NOT NULL DEFAULT false,
    ADD COLUMN calls bigint NOT NULL DEFAULT 1,
    ADD COLUMN units text NOT NULL DEFAULT '',     -- of a lease: one letter per balance, c(ost), t(okens), r(equests)
    ADD COLUMN given_back bigint[] NOT NULL DEFAULT '{0,0,0}',  -- of a lease: nanos, tokens, calls returned so far
    ADD COLUMN overrun_nanos bigint,               -- what its call cost beyond it
    ADD COLUMN overrun_tokens bigint;
CREATE INDEX hold_context ON hold (context_id, decided_at)
    WHERE state IN ('open', 'unconfirmed') AND context_id IS NOT NULL;

CREATE INDEX ledger_context ON ledger (context_id, accounted_at) WHERE context_id IS NOT NULL;
