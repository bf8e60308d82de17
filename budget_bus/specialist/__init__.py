"""
The budget specialist: questions in plain English, answered from the live books, on BUDGET_AI_PORT.

server.py    the TCP server: lines in, lines out     protocol.py  what a line asks and what it is answered
service.py   the specialist put together             desk.py      one question -> one answer, by whom
question.py  a text -> what it asks for              grammar.py   the words it knows, as tables
periods.py   "last week" -> [start, end)             names.py     "opus" -> claude-3-opus; did you mean?
engine.py    the answers without a language model    answers/     one module per subject
evidence.py  the figures that may be said            figures.py   the figures that a text says
llm.py       a language model, within its budget     calling.py   the tools that it may call

Whatever answers, a figure reaches the client only if a tool's result has it, or an exact operation on such figures.
"""
