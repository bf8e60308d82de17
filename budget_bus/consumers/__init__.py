"""
Kafka in. Each consumer is a plain `apply` that a test can call without Kafka, fed by one loop.

loop.py      polls a topic, owns its partitions, applies batches, survives everything
batch.py     records that are applied together, and how far that moves the offsets
partitions.py  which partitions are ours: epochs, offsets, watermarks
usage.py     usage.recorded -> ledger, rollups, balances, holds, alerts (the settler)
incoming.py  a usage record -> what the ledger needs: ids, tokens, cost
checks.py    check.requested -> decision, hold, check.response (the decider)
answers.py   a verdict -> the JSON that explains it
estimates.py a question -> how many tokens and how much money to hold, as asked, smaller, or with another model
learning.py  what calls lately put out, for those that state no maximum
holds.py     hold.released, hold.extended, and the expiry of holds
facts.py     a change of balances -> alerts and updates for the outbox
"""
