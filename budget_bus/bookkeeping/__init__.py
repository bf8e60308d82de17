"""
What keeps the books true beside the streams: prices that arrive, costs that are restated, sums that are checked.

Its role is `bookkeeper`. Nothing here is on the way of an event or a check.
"""
