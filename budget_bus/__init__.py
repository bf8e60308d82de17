"""
A budget service for LLM calls on Kafka and PostgreSQL. Follow an event by the file names:

    component --usage.recorded---> consumers/usage.py  --> policy/ --> store/ --> producers/outbox.py --budget.alerts-->
    component --check.requested--> consumers/checks.py --> policy/ --> store/ --> check.response (to the asker)
    gateway (http/) --------------> the same topics; admin writes go to store/ with their outbox row

events/     what is on the wire          policy/     pure decisions: values in, values out
consumers/  Kafka in                     producers/  Kafka out: the component SDK and the outbox relay
store/      PostgreSQL: SQL, migrations  providers/  names, prices and token counting of LLM providers
notifiers/  budget.alerts -> people          bookkeeping/  what keeps the books true beside the streams
http/       the Starlette gateway        client/     the HTTP clients        cli/  the `budget` command
reporting/  scheduled reports -> files and webhooks    insight/  what the books say of what was and will be
local/      the embedded stack behind `budget up`    roles.py  the composition root
"""

__version__ = "0.1.0"
