-- Scopes that may not call for a time, and what looks wrong in how money is spent.

ALTER TABLE change
    DROP CONSTRAINT change_kind_check,
    ADD CONSTRAINT change_kind_check CHECK (kind IN ('limit', 'price', 'config', 'allocation', 'pause'));

-- A pause ends by itself at until, or earlier at ended_at, when somebody resumed it. What has ended stays, so that
-- past decisions can be explained.
CREATE TABLE pause (
    pause_id   uuid        PRIMARY KEY,
    scope      jsonb       NOT NULL,
    reason     text        NOT NULL,
    actor      text        NOT NULL,
    since      timestamptz NOT NULL,
    until      timestamptz CHECK (until > since),
    ended_at   timestamptz,
    ended_by   text,
    end_reason text
);
-- A scope may be longer than what an index takes, so it is told by its digest.
CREATE UNIQUE INDEX pause_once ON pause (md5(scope::text)) WHERE ended_at IS NULL;
CREATE INDEX pause_log ON pause (since, pause_id);

-- One row per episode: from when it was found to when it was seen to be over.
CREATE TABLE anomaly (
    anomaly_id   uuid        PRIMARY KEY,
    kind         text        NOT NULL CHECK (kind IN ('velocity', 'loop', 'silence')),
    scope        jsonb       NOT NULL,
    at           timestamptz NOT NULL,
    since        timestamptz NOT NULL,  -- the evidence is of [since, at]
    observed     bigint      NOT NULL,  -- nanos of currency, or requests
    expected     bigint      NOT NULL,  -- the edge of the band, in the same unit
    unit         text        NOT NULL CHECK (unit IN ('cost', 'requests')),
    currency     text        CHECK (currency ~ '^[A-Z]{3}$'),
    reason       text        NOT NULL,
    last_seen_at timestamptz NOT NULL,
    ended_at     timestamptz,
    pause_id     uuid        REFERENCES pause,  -- of the breaker
    CHECK ((unit = 'cost') = (currency IS NOT NULL))
);
CREATE UNIQUE INDEX anomaly_once ON anomaly (kind, md5(scope::text)) WHERE ended_at IS NULL;
CREATE INDEX anomaly_log ON anomaly (at, anomaly_id);
CREATE INDEX anomaly_of_scope ON anomaly (kind, md5(scope::text), at);
