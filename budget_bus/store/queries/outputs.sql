-- name: hurry
-- For this transaction.  $1 milliseconds as text
SELECT set_config('statement_timeout', $1, true);

-- name: count_at_most
-- How many events occurred in [$1, $2); no more than $3 are looked at.
SELECT count(*) FROM (SELECT FROM ledger WHERE occurred_at >= $1 AND occurred_at < $2 LIMIT $3) AS found;

-- name: p99
-- Of the newest $3 events of [$1, $2), per group of at least $4: the output tokens that 99 of 100 stayed within.
SELECT component, provider, model, percentile_disc(0.99) WITHIN GROUP (ORDER BY output_tokens) AS p99
FROM (
    SELECT component, provider, model, output_tokens FROM ledger
    WHERE occurred_at >= $1 AND occurred_at < $2 ORDER BY occurred_at DESC LIMIT $3
) AS newest
GROUP BY component, provider, model HAVING count(*) >= $4;
