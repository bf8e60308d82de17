"""
The service for agents, over the Model Context Protocol. Its tools ask the REST interface like every other client.

server.py   the tools with their names, old and new      tools.py   what each does
rest.py     one request, its refusal as a tool's error   wording.py answers in plain sentences
"""
