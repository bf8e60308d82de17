"""
What is answered to each intent of the grammar, a module for each subject; every figure goes through the evidence.

usage.py   who spent what, and when      budgets.py  what is left, what it will come to, what is set aside
prices.py  what models cost              checks.py   what was refused, and what could still be run
asking.py  what they share: the slots of a question as arguments of tools, and how things are put
"""
