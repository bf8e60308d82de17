-- Rates by which costs are counted in the currencies of budgets.

-- A rate holds for the UTC days from effective_from on, until the next one. Days that may have been counted by never get
-- another: a rate that becomes known later holds from the next day on.
CREATE TABLE exchange_rate (
    currency       text   NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    effective_from date   NOT NULL,
    per_eur        bigint NOT NULL CHECK (per_eur > 0),  -- billionths of the currency for one euro
    published      date   NOT NULL,
    source         text   NOT NULL,
    PRIMARY KEY (currency, effective_from)
);

INSERT INTO exchange_rate VALUES ('EUR', '0001-01-01', 1000000000, '1999-01-01', 'by definition');

CREATE FUNCTION per_eur_on(code text, day date) RETURNS bigint LANGUAGE sql STABLE
RETURN (SELECT per_eur FROM exchange_rate WHERE currency = code AND effective_from <= day
        ORDER BY effective_from DESC LIMIT 1);

-- As policy/exchange.py does it: the quotient of integers, rounded half to even, or up.
CREATE FUNCTION exchanged(nanos bigint, source bigint, target bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (
    SELECT (q + CASE WHEN 2 * r > source OR (2 * r = source AND q % 2 = 1) THEN 1 ELSE 0 END)::bigint
    FROM (SELECT div(n, source) AS q, n - div(n, source) * source AS r
          FROM (SELECT nanos::numeric * target AS n) AS product) AS division
);

CREATE FUNCTION exchanged_up(nanos bigint, source bigint, target bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN div(nanos::numeric * target + source - 1, source)::bigint;
