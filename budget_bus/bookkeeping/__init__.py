"""
What keeps the books true beside the streams: prices that arrive, costs that are restated, sums that are checked.

price_updates.py   newer price data: fetched, judged, kept, and what waits of it decided
exchange_rates.py  newer exchange rates
restating.py       recorded costs after a price correction
unpriced.py        usage that had no price, when one arrives
reconciling.py     providers' own invoices beside the books
self_check.py      whether the books add up
folding.py         rollups of past hours, summed up

Its role is `bookkeeper`. Nothing here is on the way of an event or a check.
"""
