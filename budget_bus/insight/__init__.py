"""
What the books say of tomorrow, and of what might have been: read-only over the ledger and the rollups.

It decides nothing on the request path; what it finds is stored, shown and alerted.
"""
