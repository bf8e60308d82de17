"""`budget topics apply`: make the topics and check those that exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import TOPICS, TopicSpec
from budget_bus.kafka import connection
from budget_bus.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """A topic that exists; `configs` is empty where the broker does not tell them."""

    partitions: int
    replicas: int  # the fewest that a partition has
    configs: Mapping[str, str]


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
        existing = await _found(admin, {settings.topic_prefix + spec.name for spec in TOPICS})
        missing = [spec for spec in TOPICS if settings.topic_prefix + spec.name not in existing]
        made = await _create(admin, missing, settings)
    except (KafkaError, OSError) as error:
        raise BudgetUnavailable(f"the broker at {settings.kafka_bootstrap_servers} refused: {error!r}") from None
    finally:
        await admin.close()
    lines = []
    for spec in TOPICS:
        name = settings.topic_prefix + spec.name
        differences = list(_differences(existing[name], spec, settings)) if name in existing else []
        if name in made:
            lines.append(f"{name}: made with {spec.partitions or settings.kafka_partitions} partitions")
        elif differences:
            lines.append(f"{name}: {'; '.join(differences)}; left as it is")
        else:
            lines.append(f"{name}: as wanted")
    return lines


def _configs(spec: TopicSpec) -> dict[str, str]:
    return {
        "retention.ms": str(spec.retention_ms),
        "cleanup.policy": "compact" if spec.compacted else "delete",
        "max.message.bytes": str(5 * 1024 * 1024),
    }


def _differences(found: Found, spec: TopicSpec, settings: Settings) -> Iterator[str]:
    """What is less than is wanted, or kept otherwise: more partitions or replicas are nobody's loss."""
    partitions = spec.partitions or settings.kafka_partitions
    if found.partitions < partitions:
        yield f"has {found.partitions} partitions, {partitions} are wanted"
    if found.replicas < settings.kafka_replication_factor:
        yield f"has {found.replicas} replicas, {settings.kafka_replication_factor} are wanted"
    for name, wanted in _configs(spec).items():
        has = found.configs.get(name, wanted)
        if has != wanted and not (name == "max.message.bytes" and int(has) > int(wanted)):
            yield f"has {name}={has}, {wanted} is wanted"


async def _found(admin: AIOKafkaAdminClient, names: set[str]) -> dict[str, Found]:
    """Those of *names* that exist."""
    there = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics() if topic["topic"] in names}
    configs = await _read_configs(admin, sorted(there))
    return {
        name: Found(len(parts), min((len(part["replicas"]) for part in parts), default=0), configs.get(name, {}))
        for name, parts in there.items()
    }


async def _read_configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """topic -> its configuration, as far as we set it; without those that the broker does not tell."""
    if not names:
        return {}
    wanted = dict.fromkeys(_configs(TOPICS[0]))
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
    try:
        responses: list[Any] = await admin.describe_configs(resources)
    except KafkaError as error:
        # Managed brokers may refuse to tell; partitions and replicas can be compared all the same.
        log.warning("the broker does not tell how topics are kept", reason=repr(error))
        return {}
    told = [resource for response in responses for resource in response.resources]
    return {name: {key: value for key, value, *_ in entries} for code, _, _, name, entries in told if not code}


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec], settings: Settings) -> set[str]:
    if not specs:
        return set()
    topics = [
        NewTopic(
            name=settings.topic_prefix + spec.name,
            num_partitions=spec.partitions or settings.kafka_partitions,
            replication_factor=settings.kafka_replication_factor,
            topic_configs=_configs(spec),
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
