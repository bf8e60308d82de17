"""The roles of budget_bus as processes of their own; each one's command line ends in its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budget_bus.local.child import Command

START_ORDER = ("decider", "settler", "relay", "bookkeeper", "notifier", "gateway", "specialist")


@dataclass(frozen=True, slots=True)
class Role:
    """One role as a part. It counts as ready when it runs; whether it works is what `/health/ready` tells."""

    name: str
    env: Mapping[str, str]

    async def prepare(self) -> None:
        pass

    def command(self) -> Command:
        return Command((sys.executable, "-m", "budget_bus.cli", "serve", self.name), env=self.env)

    async def ready(self) -> None:
        pass


def names(*, notifies: bool) -> list[str]:
    """The roles in the order of their start; the notifier only if there is somebody to tell."""
    return [name for name in START_ORDER if name != "notifier" or notifies]


def roles(wanted: Sequence[str], shared: Mapping[str, str], metrics_ports: Mapping[str, int]) -> list[Role]:
    """
    The *wanted* roles, with *shared* as their environment.

    *metrics_ports* has a port for every role but the gateway, which serves its metrics on its own.
    """
    parts = []
    for name in wanted:
        own = {"BUDGET_INSTANCE": f"{name}-0", "BUDGET_METRICS_PORT": str(metrics_ports.get(name, 0))}
        parts.append(Role(name, {**shared, **own}))
    return parts
