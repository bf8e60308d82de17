"""
Pure decisions: values in, values out. No clock, no await, no I/O, no settings, no wire model.

pricing.py  what tokens cost at a price, and the upper bound of what they could cost
windows.py  a budget's period -> the window an instant falls in
scope.py    which budgets a call belongs to
decide.py   may this call be made, and why
suggest.py  what would fit instead: a smaller answer, a cheaper model
alerts.py   which thresholds a change of balance crosses
"""
