-- Reports of a month read hours: a quarter of the rows.

-- Sums of the rollups of each whole hour before rollup_folded.hours_until; from there on there are none yet. Whoever
-- adds to a rollup before that moment adds to its hour as well; the moment is moved under the exclusive catalogue lock.
CREATE TABLE rollup_hour (
    bucket_start            timestamptz NOT NULL,
    component               text        NOT NULL,
    provider                text        NOT NULL,
    model                   text        NOT NULL,
    tier                    text        NOT NULL,
    task_type               text        NOT NULL,
    user_name               text        NOT NULL,
    context_id              text        NOT NULL,
    currency                text        NOT NULL,
    requests                bigint      NOT NULL,
    input_tokens            bigint      NOT NULL,
    output_tokens           bigint      NOT NULL,
    cost_nanos              bigint      NOT NULL,
    unpriced_requests       bigint      NOT NULL,
    unpriced_tokens         bigint      NOT NULL,
    cache_read_input_tokens bigint      NOT NULL,
    late_requests           bigint      NOT NULL,
    late_cost_nanos         bigint      NOT NULL,
    PRIMARY KEY (bucket_start, component, provider, model, tier, task_type, user_name, context_id, currency)
);

-- The start of the UTC hour.
CREATE FUNCTION hour_of(at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT date_bin('1 hour', at, timestamptz '2000-01-01 00:00:00+00')
$$;

CREATE TABLE rollup_folded (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    hours_until timestamptz NOT NULL
);

-- Nothing is folded yet: the bookkeeper does it hour by hour, so that a large ledger keeps nobody waiting.
INSERT INTO rollup_folded (hours_until)
SELECT hour_of(coalesce(min(bucket_start), clock_timestamp())) FROM rollup;

-- All rollups of [start_at, end_at), with [hours_start, hours_end) as sums of whole hours. The planner reads through it
-- as through a view.
CREATE FUNCTION rollups_between(start_at timestamptz, hours_start timestamptz, hours_end timestamptz, end_at timestamptz)
RETURNS SETOF rollup LANGUAGE sql STABLE AS $$
    SELECT * FROM rollup WHERE bucket_start >= start_at AND bucket_start < hours_start
    UNION ALL
    SELECT * FROM rollup_hour WHERE bucket_start >= hours_start AND bucket_start < hours_end
    UNION ALL
    SELECT * FROM rollup WHERE bucket_start >= hours_end AND bucket_start < end_at
$$;
