"""
What the books say of tomorrow, and of what might have been: read-only over the ledger and the rollups.

usage_report.py  the sums of a report      cache_savings.py  what providers' caches saved
report_formats/  CSV, HTML, XLSX            focus.py          the ledger in FOCUS 1.2

It decides nothing on the request path; what it finds is stored, shown and alerted.
"""
