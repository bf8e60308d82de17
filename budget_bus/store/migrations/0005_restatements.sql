-- Costs that were restated after a price correction: what each row cost before stays.

CREATE TABLE restatement (
    restatement_id uuid        PRIMARY KEY,
    only_unpriced  boolean     NOT NULL,
    from_at        timestamptz,  -- of occurred_at; null: from the first
    to_at          timestamptz,
    provider       text,
    model          text,
    actor          text        NOT NULL,
    reason         text        NOT NULL,
    state          text        NOT NULL CHECK (state IN ('running', 'done')),
    prices_version bigint      NOT NULL,  -- of the catalogue; with other prices it begins again
    cursor_at      timestamptz,           -- rows up to here are done
    cursor_id      uuid,
    rows_changed   bigint      NOT NULL DEFAULT 0,
    moved_nanos    numeric     NOT NULL DEFAULT 0,  -- by how much the sum of all costs moved
    started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at    timestamptz
);

CREATE TABLE restated (
    restatement_id    uuid NOT NULL REFERENCES restatement,
    event_id          uuid NOT NULL,
    cost_nanos        bigint,
    input_cost_nanos  bigint,
    output_cost_nanos bigint,
    currency          text NOT NULL,
    price_status      text NOT NULL,
    price_source      text NOT NULL,
    PRIMARY KEY (restatement_id, event_id)
);

-- By how much a restatement moved each window.
CREATE TABLE restated_window (
    restatement_id uuid   NOT NULL REFERENCES restatement,
    balance_id     bigint NOT NULL,
    moved          bigint NOT NULL,
    PRIMARY KEY (restatement_id, balance_id)
);

CREATE INDEX ledger_unpriced ON ledger (occurred_at, event_id) WHERE cost_nanos IS NULL;
