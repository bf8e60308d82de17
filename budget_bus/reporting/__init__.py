"""
Reports that are due again and again: made as the gateway makes them, handed over as alerts are.

due.py       the loop: which one is due, and what became of it      delivery.py  to a file, or to a webhook
"""
