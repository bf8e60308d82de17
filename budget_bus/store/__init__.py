"""
PostgreSQL: all SQL, migrations, transactions. SQL lives in queries/*.sql by name; Python never builds one.

migrate.py    numbered migrations under an advisory lock, with checksums
sql.py        loads the named queries
pool.py       opens the connection pool; turns driver errors into Retryable
fence.py      who owns a partition, how far it is read, and the lock on the catalogue
catalogue.py  the budgets that are in force      limits.py   how they are changed
standing.py   those that the settings name
balances.py   balances: born from the ledger, locked in order, moved last
ledger.py     usage events, rollups              holds.py    holds, and the answers that placed them
outbox.py     what is to be published            admin.py    what the command line checks and mends
repair.py     balances and rollups made anew       restatements.py  costs after a price correction
prices.py     what an operator has set             price_data.py    the price data in force
outputs.py    what calls lately put out
windows.py    what windows have taken            history.py  what a limit was
integrations.py  which components are there
report_schedules.py  reports that are due again and again
reads.py      what the gateway and the command line show
"""
