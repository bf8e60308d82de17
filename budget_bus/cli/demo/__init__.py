"""
`budget demo`: believable traffic through the interfaces that everybody has.

traffic.py   which calls are made: the same for the same seed     limits.py   the limits that they meet
playing.py   makes them against a running service                 command.py  the command
"""
