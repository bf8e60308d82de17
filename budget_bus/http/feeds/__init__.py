"""
Live feeds over WebSockets: /ws and /ws/alerts.

books and Kafka -> one reader per feed and process -> a bounded queue per client -> that client's own task -> its socket

socket.py    a WebSocket: refused or accepted, snapshot, messages, how it is closed
feed.py      one reader for all clients, which runs while there are any         outgoing.py  one client's queue
budgets.py   /ws: usage and balances         usage.py  events as they come into the books
alerts.py    /ws/alerts, and how it is resumed
"""
