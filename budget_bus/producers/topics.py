"""`budget topics apply`: make the topics and check those that exist."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import TOPICS, TopicSpec
from budget_bus.kafka import connection
from budget_bus.settings import Settings


async def apply_topics(settings: Settings) -> list[str]:
    """
    Make the topics that are missing; an existing one is left as it is.

    Returns:
        One line per topic: made, or how it differs from what is wanted, or "as wanted".

    Raises:
        BudgetUnavailable: the broker does not answer or refuses.
    """
    admin = AIOKafkaAdminClient(**connection(settings), request_timeout_ms=15_000)
    try:
        await admin.start()
        existing = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        missing = [spec for spec in TOPICS if settings.topic_prefix + spec.name not in existing]
        made = await _create(admin, missing, settings)
    except (KafkaError, OSError) as error:
        raise BudgetUnavailable(f"the broker at {settings.kafka_bootstrap_servers} refused: {error!r}") from None
    finally:
        await admin.close()
    lines = []
    for spec in TOPICS:
        name, wanted = settings.topic_prefix + spec.name, spec.partitions or settings.kafka_partitions
        if name in made:
            lines.append(f"{name}: made with {wanted} partitions")
        elif existing.get(name, wanted) < wanted:
            lines.append(f"{name}: has {existing[name]} partitions, {wanted} are wanted; left as it is")
        else:
            lines.append(f"{name}: as wanted")
    return lines


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec], settings: Settings) -> set[str]:
    if not specs:
        return set()
    topics = [
        NewTopic(
            name=settings.topic_prefix + spec.name,
            num_partitions=spec.partitions or settings.kafka_partitions,
            replication_factor=settings.kafka_replication_factor,
            topic_configs={
                "retention.ms": str(spec.retention_ms),
                "cleanup.policy": "compact" if spec.compacted else "delete",
                "max.message.bytes": str(5 * 1024 * 1024),
            },
        )
        for spec in specs
    ]
    response = await admin.create_topics(topics)
    made = set()
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            made.add(name)
        elif error is not TopicAlreadyExistsError:
            raise error(f"{name}: {message}")
    return made
