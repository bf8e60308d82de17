"""
What would save money, and where more of it would do good.

cheaper.py and capacity.py make candidates from the books, measuring.py and the replay say what each would have saved,
optimise.py ranks them. sharing.py cuts allocations anew by linear programming.
"""
