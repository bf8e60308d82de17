-- The books: who owns which part of the log, what was used, what is set aside, what leaves.

-- One row per consumed partition. The offset moves in the same transaction as the effects of the records before it;
-- owner_epoch fences a consumer that has lost the partition without noticing.
CREATE TABLE bus_offset (
    topic        text        NOT NULL,
    part         int         NOT NULL,
    next_offset  bigint      NOT NULL CHECK (next_offset >= 0),
    owner_epoch  bigint      NOT NULL,
    owner_id     text        NOT NULL,
    watermark_at timestamptz NOT NULL,  -- all records older than this are in the books
    seen_at      timestamptz NOT NULL DEFAULT 'epoch',  -- when the owner was last at work
    PRIMARY KEY (topic, part)
) WITH (fillfactor = 50);

-- Bumped by every change of a budget or price, under the exclusive catalogue lock; consumers cache by it.
CREATE TABLE catalogue (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint  NOT NULL
);
INSERT INTO catalogue (version) VALUES (1);

CREATE TABLE budget (
    budget_id       uuid        PRIMARY KEY,
    name            text        NOT NULL,
    scope           jsonb       NOT NULL,
    period          text        NOT NULL CHECK (period IN ('hourly', 'daily', 'weekly', 'monthly', 'total')),
    unit            text        NOT NULL CHECK (unit IN ('cost', 'tokens', 'requests')),
    currency        text        CHECK (currency ~ '^[A-Z]{3}$'),
    limit_amount    bigint      NOT NULL CHECK (limit_amount >= 0),  -- nanos of currency, tokens or requests
    policy          text        CHECK (policy IN ('IGNORE', 'WARN', 'SOFT_LIMIT', 'HARD_LIMIT')),  -- null: the default
    ceiling_percent int         CHECK (ceiling_percent >= 100),
    thresholds      int[]       NOT NULL,
    timezone        text        NOT NULL,
    week_start      int         NOT NULL DEFAULT 0 CHECK (week_start BETWEEN 0 AND 6),
    month_anchor    int         NOT NULL DEFAULT 1 CHECK (month_anchor BETWEEN 1 AND 31),
    shadow          boolean     NOT NULL DEFAULT false,
    limit_version   int         NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at      timestamptz,
    CHECK ((unit = 'cost') = (currency IS NOT NULL))
);
CREATE UNIQUE INDEX budget_identity ON budget (scope, period, unit) WHERE deleted_at IS NULL;

-- Born as the ledger's sum of its window, then moved only together with ledger and holds.
CREATE TABLE balance (
    balance_id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget_id    uuid        NOT NULL REFERENCES budget,
    window_start timestamptz NOT NULL,
    window_end   timestamptz,
    spent        bigint      NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held         bigint      NOT NULL DEFAULT 0 CHECK (held >= 0),
    unconfirmed  bigint      NOT NULL DEFAULT 0 CHECK (unconfirmed >= 0),
    UNIQUE (budget_id, window_start)
) WITH (fillfactor = 50);

-- Every usage event, once; the only source of truth. Costs are nanos of currency, null while unpriced.
CREATE TABLE ledger (
    event_id                    uuid        PRIMARY KEY,
    digest                      bytea       NOT NULL,  -- of what the caller said: tells a duplicate from a conflict
    occurred_at                 timestamptz NOT NULL,
    accounted_at                timestamptz NOT NULL,  -- picks the windows: the settled hold's decision, else occurred_at
    recorded_at                 timestamptz NOT NULL DEFAULT clock_timestamp(),
    component                   text        NOT NULL,
    provider                    text        NOT NULL,
    model                       text        NOT NULL,
    tier                        text        NOT NULL,
    service_tier                text        NOT NULL,
    task_type                   text,
    context_id                  text,
    user_name                   text,
    operation_id                text,
    tags                        jsonb       NOT NULL,
    input_tokens                bigint      NOT NULL,
    output_tokens               bigint      NOT NULL,
    cache_read_input_tokens     bigint      NOT NULL,
    cache_creation_input_tokens bigint      NOT NULL,
    reasoning_output_tokens     bigint      NOT NULL,
    input_audio_tokens          bigint      NOT NULL,
    output_audio_tokens         bigint      NOT NULL,
    token_source                text        NOT NULL CHECK (token_source IN ('provider', 'exact', 'estimated')),
    cost_nanos                  bigint,
    input_cost_nanos            bigint,
    output_cost_nanos           bigint,
    currency                    text        NOT NULL,
    price_status                text        NOT NULL CHECK (price_status IN ('priced', 'free', 'unpriced', 'fallback')),
    price_source                text        NOT NULL,
    reported_cost_nanos         bigint,
    reported_currency           text,
    request_id                  uuid,       -- the hold that it settled
    late                        boolean     NOT NULL,
    unreserved                  boolean     NOT NULL,
    topic                       text        NOT NULL,
    part                        int         NOT NULL,
    record_offset               bigint      NOT NULL,
    CHECK ((cost_nanos IS NULL) = (price_status = 'unpriced'))
);
-- Events arrive nearly in time order, also within an import, so block ranges find a window at next to no write cost.
CREATE INDEX ledger_accounted ON ledger USING brin (accounted_at) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX ledger_occurred ON ledger USING brin (occurred_at) WITH (pages_per_range = 16, autosummarize = on);

-- Sums of the ledger per 15-minute UTC bucket of occurred_at: every zone's day is an exact sum of them.
-- Absent task_type, user and context are '' so that they can be part of the key.
CREATE TABLE rollup (
    bucket_start      timestamptz NOT NULL,
    component         text        NOT NULL,
    provider          text        NOT NULL,
    model             text        NOT NULL,
    tier              text        NOT NULL,
    task_type         text        NOT NULL,
    user_name         text        NOT NULL,
    context_id        text        NOT NULL,
    currency          text        NOT NULL,
    requests          bigint      NOT NULL,
    input_tokens      bigint      NOT NULL,
    output_tokens     bigint      NOT NULL,
    cost_nanos        bigint      NOT NULL,
    unpriced_requests bigint      NOT NULL,
    unpriced_tokens   bigint      NOT NULL,
    PRIMARY KEY (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency)
) WITH (fillfactor = 70);

-- The answer to each check, for ever the same for its request_id. A release that comes before its check takes the id:
-- whoever asked has given up, so the check must place nothing.
CREATE TABLE decision (
    request_id uuid        PRIMARY KEY,
    digest     bytea       NOT NULL,
    action     text        NOT NULL CHECK (action IN ('allow', 'warn', 'degrade', 'deny', 'released')),
    answer     text        NOT NULL,  -- the check.response JSON, byte for byte
    decided_at timestamptz NOT NULL
);

-- An amount set aside by an approved check. amounts[i] is held on balance_ids[i], in that balance's unit.
CREATE TABLE hold (
    request_id  uuid        PRIMARY KEY,
    state       text        NOT NULL CHECK (state IN ('open', 'settled', 'voided', 'expired', 'unconfirmed')),
    component   text        NOT NULL,
    provider    text        NOT NULL,
    model       text        NOT NULL,
    tier        text        NOT NULL,
    task_type   text,
    context_id  text,
    user_name   text,
    tags        jsonb       NOT NULL,
    cost_nanos  bigint,     -- the estimate; null if unpriced
    tokens      bigint      NOT NULL,
    currency    text        NOT NULL,
    balance_ids bigint[]    NOT NULL,
    amounts     bigint[]    NOT NULL,
    decided_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    closed_at   timestamptz,
    event_id    uuid,       -- what settled it
    reason      text,
    CHECK ((state = 'open') = (closed_at IS NULL)),
    CHECK (cardinality(balance_ids) = cardinality(amounts))
) WITH (fillfactor = 70);
CREATE INDEX hold_oldest_open ON hold (component, provider, model, decided_at, request_id) WHERE state = 'open';
CREATE INDEX hold_expiring ON hold (expires_at) WHERE state = 'open';
CREATE INDEX hold_unconfirmed ON hold (decided_at) WHERE state = 'unconfirmed';

-- One row per crossing; the relay publishes it from the outbox with this id.
CREATE TABLE alert (
    alert_id          uuid        PRIMARY KEY,
    budget_id         uuid        NOT NULL REFERENCES budget,
    window_start      timestamptz NOT NULL,
    threshold_percent int         NOT NULL,
    limit_version     int         NOT NULL,
    kind              text        NOT NULL,
    payload           jsonb       NOT NULL,
    raised_at         timestamptz NOT NULL,
    acknowledged_at   timestamptz,
    acknowledged_by   text,
    UNIQUE (budget_id, window_start, threshold_percent, limit_version, kind)
);
CREATE INDEX alert_raised ON alert (raised_at);

-- What is to be published, in commit order per key; a row is deleted once Kafka has acknowledged it.
CREATE TABLE outbox (
    outbox_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic         text        NOT NULL,
    key           bytea,
    value         bytea,
    header_names  text[]      NOT NULL DEFAULT '{}',
    header_values bytea[]     NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who changed what, before and after.
CREATE TABLE change (
    change_id uuid        PRIMARY KEY,
    kind      text        NOT NULL CHECK (kind IN ('limit', 'price', 'config', 'allocation')),
    before    jsonb,
    after     jsonb,
    actor     text        NOT NULL,
    at        timestamptz NOT NULL
);

-- Run-time settings that outlive a process (`budget config set`).
CREATE TABLE config (
    key   text  PRIMARY KEY,
    value jsonb NOT NULL
);

-- How every transaction that touches the books begins, in one round trip: move the offsets it is about, share the
-- lock that changes of the catalogue take alone, and only then read the catalogue's version. Each statement of a
-- volatile function sees what was committed before it, so the version is the one that holds until the end.
CREATE FUNCTION enter_books(
    of_topic text, parts int[], from_offsets bigint[], to_offsets bigint[], epochs bigint[], watermarks timestamptz[],
    catalogue_lock bigint, usage_topic text, OUT moved int, OUT version bigint, OUT usage_read_to timestamptz
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE bus_offset b SET next_offset = u.to_offset, watermark_at = greatest(b.watermark_at, u.watermark_at),
                            seen_at = clock_timestamp()
    FROM unnest(parts, from_offsets, to_offsets, epochs, watermarks) AS u (part, from_offset, to_offset, epoch, watermark_at)
    WHERE b.topic = of_topic AND b.part = u.part AND b.owner_epoch = u.epoch AND b.next_offset = u.from_offset;
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM pg_advisory_xact_lock_shared(catalogue_lock);
    SELECT c.version INTO version FROM catalogue c;
    SELECT min(b.watermark_at) INTO usage_read_to FROM bus_offset b WHERE b.topic = usage_topic;
END $$;
