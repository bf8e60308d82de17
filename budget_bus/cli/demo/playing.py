"""Makes the demo's calls as a component would: ask, make the call, record it; and tells what is worth telling."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from budget_bus.cli.demo.traffic import DemoCall
from budget_bus.cli.gateway import ask, called
from budget_bus.errors import BudgetExceeded, BudgetUnavailable

if TYPE_CHECKING:
    from budget_bus.client import AsyncBudgetClient
    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

Say = Callable[[str], None]

_AT_ONCE = 500  # events of one request
_TOLD = 3  # of each kind of news
_TIMEOUT_S = 15.0


@dataclass(slots=True)
class Played:
    """What came of the calls: how many were answered how, and what the recorded ones cost."""

    actions: Counter[str] = field(default_factory=Counter)
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    failed: int = 0

    @property
    def calls(self) -> int:
        return self.actions.total() + self.failed


def record_past(days: Iterable[list[dict[str, Any]]], say: Say) -> int:
    """Record the usage of past days; returns how many events were sent when the last ones are counted."""
    sent = 0
    for events in _batches(days):
        _, answer = ask("POST", "/api/record", body={"events": events})
        sent += answer["accepted"]
        last = events[-1:]
        say(f"  {sent} events, up to {last[0]['occurred_at']}")
    if sent:
        ask("POST", "/api/record", body={"events": last}, query={"wait": "true"})
    return sent


def _batches(days: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    waiting: list[dict[str, Any]] = []
    for events in days:
        waiting += events
        while len(waiting) >= _AT_ONCE:
            yield waiting[:_AT_ONCE]
            waiting = waiting[_AT_ONCE:]
    if waiting:
        yield waiting


async def play(
    calls: Iterator[DemoCall], *, seconds: float, rate: float, say: Say, client: AsyncBudgetClient
) -> Played:
    """
    Make *rate* calls per second for so long, each when its time has come, whether the ones before have ended or not.
    Ctrl-C begins no more; those that are under way come to their end.
    """
    loop, stopping, player = asyncio.get_running_loop(), asyncio.Event(), _Player(client, say)
    loop.add_signal_handler(signal.SIGINT, stopping.set)
    try:
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(round(seconds * rate)):
                if await _told(stopping, began + number / rate - loop.time()):
                    say("stopping; the calls that are under way come to their end")
                    break
                group.create_task(player.make(next(calls)))
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return player.played


async def _told(stopping: asyncio.Event, within_s: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), max(0.0, within_s))
    return stopping.is_set()


def open_client(settings: Settings) -> AsyncBudgetClient:
    """The client that plays."""
    from budget_bus.client import AsyncBudgetClient

    key = settings.api_key.get_secret_value() if settings.api_key else None
    return AsyncBudgetClient(called(settings), settings.port, api_key=key, timeout=_TIMEOUT_S)


class _Player:
    def __init__(self, client: AsyncBudgetClient, say: Say) -> None:
        self._client, self._say = client, say
        self._told: Counter[str] = Counter()
        self.played = Played()

    async def make(self, call: DemoCall) -> None:
        try:
            await (self._record(call) if call.fate == "unchecked" else self._ask_and_record(call))
        except BudgetExceeded as denied:
            self.played.actions["denied"] += 1
            self._news("denied", f"denied   {call.fields['component']} / {call.fields['model']}: {denied}")
        except BudgetUnavailable as error:
            self.played.failed += 1
            self._news("failed", f"no answer: {error}")

    async def _ask_and_record(self, call: DemoCall) -> None:
        bounds = {"input_tokens": call.input_tokens, "max_output_tokens": call.max_output_tokens}
        async with self._client.guard(**(call.fields | bounds)) as guard:
            action = guard.info["action"]
            for warning in guard.info.get("warnings") or ():
                self._news(action, f"{action:8} {call.fields['component']} / {call.fields['model']}: {warning}")
            await asyncio.sleep(call.seconds)  # what a model would take
            if call.fate == "voided":
                await guard.void("the demo did not make this call")
                action = "given back"
            else:
                self._booked(await guard.settle(**call.used))
        self.played.actions["allowed" if action == "allow" else action] += 1

    async def _record(self, call: DemoCall) -> None:
        self._booked(await self._client.record_usage(**(call.fields | call.used)))
        self.played.actions["not asked"] += 1

    def _booked(self, recorded: dict[str, Any]) -> None:
        if recorded.get("price_status") == "unpriced":
            self.played.unpriced += 1
            self._news("unpriced", f"unpriced {recorded['model']}: counted, but nobody knows what it costs")
        self.played.cost += Decimal(recorded.get("total_cost") or 0)

    def _news(self, kind: str, line: str) -> None:
        """Tell the first few of a kind."""
        self._told[kind] += 1
        if self._told[kind] <= _TOLD:
            self._say(f"  {line}" + (" (no more of these are told)" if self._told[kind] == _TOLD else ""))
