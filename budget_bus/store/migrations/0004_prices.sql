-- Prices that operators have set, and the price data that came since the installed release.

-- A row holds from effective_from until the next one of its model and tier. Rates are picos:
-- {"input": [per token, [[more than this many input tokens, per token], ...]], ..., "per_request": per request}
CREATE TABLE price (
    provider       text        NOT NULL,
    model          text        NOT NULL,
    service_tier   text        NOT NULL,
    effective_from timestamptz NOT NULL,
    currency       text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    rates          jsonb       NOT NULL,
    actor          text        NOT NULL,
    set_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider, model, service_tier, effective_from)
);

-- Base data that was fetched and found good: the newest row is in force, the installed release's data without any.
CREATE TABLE price_data (
    data_id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text        NOT NULL,
    fetched_at timestamptz NOT NULL,
    document   bytea       NOT NULL  -- zlib of the JSON, in genai-prices' form
);

-- A model whose fetched price moved too far, or vanished: the old one holds until somebody decides.
CREATE TABLE price_review (
    provider   text        NOT NULL,  -- ids of the data, not stored names
    model      text        NOT NULL,
    reason     text        NOT NULL,
    before     jsonb       NOT NULL,  -- the model as it is in force
    after      jsonb,                 -- as it was fetched; null: it vanished
    state      text        NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected')),
    found_at   timestamptz NOT NULL,
    decided_at timestamptz,
    decided_by text,
    PRIMARY KEY (provider, model)
);
