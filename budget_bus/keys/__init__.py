"""
API keys, as the command makes them and the gateway knows them again.

key.py   the roles, a new key, its hash          file.py  the keys file: read, add to it, take from it
"""
