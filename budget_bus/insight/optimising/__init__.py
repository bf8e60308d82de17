"""
What would save money, and where more of it would do good: candidates from the books, each measured by a replay.

candidates.py -> measuring.py -> suggestions.py; sharing.py cuts allocations anew by linear programming.
"""
