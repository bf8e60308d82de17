-- What providers say that they charged, per UTC day: imported from their own exports, compared with the rollups.

CREATE TABLE invoice_line (
    provider    text        NOT NULL,
    day         date        NOT NULL,
    item        text        NOT NULL,  -- in the provider's words
    model       text,                  -- null: the item names none
    currency    text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    cost_nanos  bigint      NOT NULL,  -- below zero: a credit
    actor       text        NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider, day, item, currency)
);

-- An alert of drift is about a provider's model, which is no budget.
ALTER TABLE alert DROP CONSTRAINT alert_budget_id_fkey;
