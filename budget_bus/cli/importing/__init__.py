"""
`budget import`: past usage from CSV and JSONL files, through Kafka like any other.

command.py   the options, the order of the steps, and what is said
files.py     a file -> its rows, with line numbers
columns.py   which column is which field; a row -> the fields of an event
instants.py  a time stamp as it was written -> an instant
identity.py  a row -> the event_id that it always has
checking.py  the first pass: every row is validated before any is sent
sending.py   the second pass: many in flight
outcome.py   waiting for the settler, and what became of each row
"""
