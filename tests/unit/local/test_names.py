"""Which roles `budget up` starts."""

from __future__ import annotations

from budget_bus.local.roles import START_ORDER, names
from budget_bus.roles import ROLES


def test_every_role_is_started_when_there_is_somebody_to_tell() -> None:
    assert names(notifies=True) == list(START_ORDER)
    assert set(START_ORDER) == set(ROLES)


def test_the_notifier_is_not_started_for_nobody() -> None:
    assert set(START_ORDER) - set(names(notifies=False)) == {"notifier"}
