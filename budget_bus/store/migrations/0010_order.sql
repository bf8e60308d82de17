-- In which order transactions had the balances: what decided, settled, voided and expired can be replayed.

-- A number is taken while a transaction has its balances locked, so of two that share one the smaller had it first.
CREATE SEQUENCE books_order;

-- What was asked, without its texts, and what one such call was estimated at; null in decisions of earlier releases.
ALTER TABLE decision ADD COLUMN seq bigint, ADD COLUMN asked jsonb;

-- What else moved balances, a row for each batch and partition of usage, and for each hold that ended without usage.
CREATE TABLE movement (
    seq         bigint      NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('settled', 'voided', 'expired', 'given_back', 'restated', 'carried')),
    at          timestamptz,  -- by the clock of who moved them
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    topic       text,         -- settled: the records [from_offset, to_offset) of a partition
    part        int,
    from_offset bigint,
    to_offset   bigint,
    request_id  uuid,         -- voided, expired, given_back: the hold
    cost_nanos  bigint,       -- given_back: the part of a lease
    tokens      bigint,
    calls       bigint,
    balance_id  bigint        -- carried: the window that was born with what an earlier one had left
);
CREATE INDEX movement_order ON movement (seq);
CREATE INDEX movement_settled ON movement (topic, part, from_offset) WHERE kind = 'settled';
CREATE INDEX movement_at ON movement USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX ledger_recorded ON ledger USING brin (recorded_at) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX movement_of_hold ON movement (request_id) WHERE request_id IS NOT NULL;
