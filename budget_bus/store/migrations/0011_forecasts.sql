-- What budgets will come to, as a bookkeeper last worked it out, and what was alerted of it.

CREATE TABLE forecast (
    budget_id              uuid          NOT NULL REFERENCES budget,
    leaving_out            text          NOT NULL,  -- a component: what all others will spend; '' for the whole budget
    window_start           timestamptz   NOT NULL,
    made_at                timestamptz   NOT NULL,
    method                 text,                    -- null: too little is known for a band
    reason                 text,                    -- why method is null
    expected               bigint,                  -- at the window's end, in the budget's unit; null without an end
    low                    bigint,
    high                   bigint,
    backtest_error_percent numeric(12, 2),
    run_rate_error_percent numeric(12, 2),          -- of the straight line, in the same back-tests
    path                   jsonb,                   -- what is still to be spent by when, with quantiles
    -- What alerts are compared with next time: see policy/forecast_alerts.py.
    alert_version          int           NOT NULL DEFAULT 0,
    seen                   int           NOT NULL DEFAULT 0,
    kept                   int           NOT NULL DEFAULT 0,
    announced              int           NOT NULL DEFAULT 0,
    PRIMARY KEY (budget_id, leaving_out)
);
