"""
The Starlette gateway: the documented REST endpoints as a bridge onto the bus and a view of the books.

app.py       the routes of all endpoints -> one Starlette app      server.py  runs it: pool, bus, uvicorn
route.py     an endpoint with its models -> a route                problems.py  error class -> problem+json, one table
body.py      request bytes, bounded, -> a model                    query.py   query string -> a model; pages
parts.py     what the handlers are handed                          middleware.py  compression, whose pages may call
openapi.py   the document of all endpoints                         docs.py    /docs and /asyncapi
pace.py      requests per second                                   files.py   pages and files, dashboard/  the page at /
protocol.py  an end to requests that never are complete
admission.py  who asks, and may they: keys, roles, components
check.py     POST /api/check            record.py  POST /api/record            settled.py  ?wait=true
limit_raises.py   /api/limits/{id}/raise     limit_windows.py  /api/limits/{id}/windows
limit_body.py     bodies of limits           limit_spec.py     what becomes of a limit by them
usage.py     GET /api/usage/{period}    limits.py  /api/limits                 budgets.py  budgets with their balances
holds.py     /api/holds                 alerts.py  /api/alerts                 status.py   GET /api/status
report_numbers.py  the numbers of reports    report_schedules.py  /api/reports/schedules
integrations.py   GET /api/integrations    reports.py  GET /api/reports/summary    export.py  GET /api/reports/export
feeds/       /ws and /ws/alerts, live    agents.py  /mcp/
health.py    /health/live, /health/ready, /metrics                 lag.py     how far the consumers are behind
"""
