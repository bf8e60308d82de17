"""
Everything on the wire, one pydantic model per event; `schemas/` is generated from these.

fields.py   the field types that the events share: names, token counts, instants
usage.py    usage.recorded                      checks.py   check.requested and check.response
holds.py    hold.released, hold.extended        facts.py    budget.alerts, budget.updates, budget.changes
topics.py   the names of the topics, their keys and settings
published.py  their JSON Schemas                 asyncapi.py the document of the topics
decode.py   bytes of a record -> a model, or Rejected with the field and the fix
"""
