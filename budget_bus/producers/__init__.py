"""
Kafka out.

bus.py     BudgetBus, the SDK that components import: record, check, guard, alerts
sender.py  a supervised idempotent producer (recreated when aiokafka's sequence is out of order)
topics.py  `budget topics apply`: make the topics and check them
outbox.py  the relay: what the books want published leaves here, at least once, in order per key
"""
