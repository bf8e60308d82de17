"""
`python -m bench`: how fast we are, beside the floor of the same machine in the same run.

A floor is the least that any Python program on Kafka and PostgreSQL has to do for the same promise of durability.
Floor and ours take turns, so that what else the machine does hits both.

stack.py   PostgreSQL and Apache Kafka for the run, and processes on them
load.py    the usage events, and how round trips are timed
settle.py  usage.recorded -> books, one settler       floor_settle.py  the bare loop beside it
checks.py  a check's round trip, one decider          floor_echo.py    the bare echo beside it
feed.py    alerts -> WebSocket clients, one gateway   floor_feed.py    the bare broadcast beside it
listeners.py  those clients
dashboard.py  the dashboard in Chromium               startup.py      the client's import, and --help
machine.py what it ran on        report.py  the results as JSON and as a table
"""
