"""The courier: again and again until an alert is taken or given up, on a clock that is turned by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from budget_bus import metrics
from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers.attempts import Patience, Refused, TryAgain
from budget_bus.notifiers.courier import Courier
from tests.unit.notifiers.alerts import alert

NOW = datetime(2026, 11, 2, 9, 16, tzinfo=UTC)


class Scripted:
    """A channel whose attempts end as *script* says, then well."""

    def __init__(self, *script: Exception) -> None:
        self.name, self.script, self.tried = f"scripted-{id(self)}", list(script), 0

    async def send(self, _: BudgetAlert) -> None:
        self.tried += 1
        if self.script:
            raise self.script.pop(0)

    def counted(self, outcome: str) -> float:
        labels = {"channel": self.name, "outcome": outcome}
        return metrics.REGISTRY.get_sample_value("budget_bus_notifications_total", labels) or 0.0


class Clock:
    """Time passes when it is waited for."""

    def __init__(self) -> None:
        self.now_s, self.pauses = 0.0, list[float]()

    async def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds


def courier(channel: Scripted, clock: Clock, **changes: Any) -> Courier:
    options: dict[str, Any] = {
        "patience": Patience(600),
        "max_age_s": 3600,
        "min_severity": "info",
        "stopping": asyncio.Event(),
        "now": lambda: NOW,
        "monotonic": lambda: clock.now_s,
        "wait": clock.wait,
        "jitter": lambda: 0.0,
    }
    return Courier(channel, **{**options, **changes})


@pytest.mark.parametrize(
    ("script", "pauses", "tried", "outcome"),
    [
        pytest.param([], [], 1, "taken", id="taken at once"),
        pytest.param([TryAgain("503")] * 3, [1, 2, 4], 4, "taken", id="taken after three pauses, each twice the last"),
        pytest.param([TryAgain("429", 30)], [30], 2, "taken", id="taken after the time that was asked for"),
        pytest.param([Refused("404")], [], 1, "given_up", id="refused, so not sent again"),
        pytest.param([TryAgain("503"), Refused("404")], [1], 2, "given_up", id="refused on the second attempt"),
        pytest.param([TryAgain("429", 601)], [], 1, "given_up", id="given up, as it asks for more than the patience"),
        pytest.param([RuntimeError("a bug")], [], 1, "given_up", id="given up for a fault of ours"),
    ],
)
async def test_an_alert_is_taken_or_given_up(
    script: list[Exception], pauses: list[float], tried: int, outcome: str
) -> None:
    channel, clock = Scripted(*script), Clock()
    assert await courier(channel, clock).deliver(alert())
    assert (clock.pauses, channel.tried, channel.counted(outcome)) == (pauses, tried, 1)


async def test_a_dead_receiver_is_given_up_within_the_patience() -> None:
    channel, clock = Scripted(*[TryAgain("503")] * 1000), Clock()
    assert await courier(channel, clock).deliver(alert())
    assert 540 < clock.now_s <= 600
    assert channel.counted("given_up") == 1


async def test_giving_up_is_an_error_that_names_the_alert() -> None:
    with capture_logs() as logs:
        await courier(Scripted(Refused("the receiver answered 404")), Clock()).deliver(alert())
    (said,) = logs
    assert (said["log_level"], said["alert_id"]) == ("error", str(alert().alert_id))
    assert said["reason"] == "the receiver answered 404"


@pytest.mark.parametrize(
    ("severity", "least", "told"),
    [
        pytest.param("info", "info", True, id="info is told from info on"),
        pytest.param("info", "warning", False, id="info is not told from warning on"),
        pytest.param("warning", "warning", True, id="a warning is told from warning on"),
        pytest.param("warning", "error", False, id="a warning is not told from error on"),
        pytest.param("error", "warning", True, id="an error is always told"),
    ],
)
async def test_what_is_told_from_which_severity_on(severity: str, least: str, told: bool) -> None:
    channel = Scripted()
    assert await courier(channel, Clock(), min_severity=least).deliver(alert(severity=severity))
    assert channel.tried == told


@pytest.mark.parametrize(
    ("age", "outcome"),
    [
        pytest.param(timedelta(hours=1), "taken", id="just young enough"),
        pytest.param(timedelta(hours=1, seconds=1), "too_old", id="no news any more"),
        pytest.param(timedelta(minutes=-5), "taken", id="from a clock that is ahead"),
    ],
)
async def test_old_alerts_are_not_told(age: timedelta, outcome: str) -> None:
    channel = Scripted()
    assert await courier(channel, Clock()).deliver(alert(raised_at=(NOW - age).isoformat()))
    assert (channel.counted(outcome), channel.tried) == (1, outcome == "taken")


async def test_stopping_ends_the_pause_and_the_alert_comes_again() -> None:
    stopping, waiting = asyncio.Event(), asyncio.Event()
    channel = Scripted(TryAgain("503", 500))
    work = courier(channel, Clock(), stopping=stopping, wait=None, jitter=lambda: waiting.set() or 0.0)
    delivering = asyncio.create_task(work.deliver(alert()))
    await waiting.wait()
    stopping.set()
    async with asyncio.timeout(5):
        assert await delivering is False
    assert channel.tried == 1
    assert await work.deliver(alert()) is False
