"""What is usual, and what is now -> what looks wrong. Values in, values out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from budget_bus.insight.learnt import Key, Learnt, keys_of
from budget_bus.money import Nanos, format_nanos
from budget_bus.policy.looping import Turn, calls_needed, is_loop, latest_run
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.silence import find_silence
from budget_bus.policy.velocity import BUCKET, Band, bucket_of, learn_band
from budget_bus.store.anomalies import Finding, TurnRow, Used

Wrong = Sequence[tuple[dict[str, Any], datetime, datetime]]  # scope, start and end of what was spent too fast
# What was told, by kind and scope, and the end of the pause that followed: nothing before it is evidence again.
UsedUp = Mapping[tuple[str, str], datetime]


def scope_of(key: Key) -> dict[str, Any]:
    """As a budget's scope is written."""
    return dict(zip(("component", "provider", "model"), key, strict=False))


def place_of(kind: str, scope: Mapping[str, Any]) -> tuple[str, str]:
    """One spelling of a kind of anomaly and its scope."""
    return kind, "\x00".join(f"{name}={scope[name]}" for name in sorted(scope))


def too_fast(
    learnt: Learnt, recent: Iterable[Used], now: datetime, *, floor: int, wrong: Wrong = (), used_up: UsedUp
) -> Iterator[Finding]:
    """
    Components that have spent more within the last 15 minutes than their band has; where the component has not, its
    models. *recent* are these minutes.
    """
    minutes: dict[Key, list[Used]] = defaultdict(list)
    for used in recent:
        for key in keys_of(used):
            minutes[key].append(used)
    told: set[str] = set()
    for key in sorted(minutes, key=lambda key: (len(key), key)):
        if key[0] in told:
            continue
        since = max(now - BUCKET, _used_up_to(key, used_up, now))
        counted = [used for used in minutes[key] if used.at >= since or since == now - BUCKET]
        spent = sum(used.cost_nanos for used in counted)
        if spent <= floor:
            continue
        band = learn_band(learnt.costs.get(key, {}), now, floor=floor, ignored=_ignored(key, wrong))
        if band is not None and spent > band.high:
            told.add(key[0])
            about = _spending(key, counted, spent, band, now - since)
            yield Finding("velocity", scope_of(key), now, since, spent, band.high, "cost", PRICE_CURRENCY, about)


def looping(
    learnt: Learnt, turns: Iterable[TurnRow], now: datetime, *, floor: int, used_up: UsedUp
) -> Iterator[Finding]:
    """Contexts in which a component calls one model again and again with ever more input; *turns* in their order."""
    for (context_id, component), rows in groupby(turns, key=lambda row: (row.context_id, row.component)):
        scope = {"context_id": context_id}
        since = used_up.get(place_of("loop", scope))
        run = latest_run(Turn(*row[2:]) for row in rows if since is None or row.at > since)
        if run is None:
            continue
        last = run.turns[-1]
        usual = learnt.paces.get((component, last.provider, last.model))
        if is_loop(run, usual_calls=usual, floor=floor):
            first, count = run.turns[0], len(run.turns)
            reason = (
                f"{component} called {last.provider}/{last.model} {count} times in a row within "
                f"{_minutes(last.at - first.at)} for {_money(run.cost_nanos)}, the input growing from "
                f"{first.input_tokens} to {last.input_tokens} tokens"
            )
            yield Finding(
                "loop", scope, now, first.at, count, calls_needed(usual) - 1, "requests", None, reason
            )  # fmt: skip


def silent(learnt: Learnt, recent: Iterable[Used], now: datetime) -> Iterator[Finding]:
    """Components of which nothing was heard for longer than ever at times at which they are steady."""
    heard = {used.component for used in recent}
    for component, calls in sorted(learnt.calls.items()):
        found = None if component in heard else find_silence(calls, now)
        if found is not None:
            reason = (
                f"{component} has made no call for {_minutes(now - found.since)}, at a time of the week at which it "
                f"always does; a week before there were {found.calls}"
            )
            yield Finding(
                "silence", {"component": component}, now, found.since, 0, found.calls, "requests", None, reason
            )  # fmt: skip


def _used_up_to(key: Key, used_up: UsedUp, now: datetime) -> datetime:
    """What a component spent, its models spent, and the other way round: what is told of one is told of the other."""
    own = place_of("velocity", scope_of(key[:1]))
    models = (end for (kind, scope), end in used_up.items() if kind == "velocity" and scope.startswith(f"{own[1]}\x00"))
    return max(used_up.get(own, now - BUCKET), *models, now - BUCKET)


def _spending(key: Key, counted: Sequence[Used], spent: int, band: Band, span: timedelta) -> str:
    models: dict[str, int] = defaultdict(int)
    for used in counted:
        models[f"{used.provider}/{used.model}"] += used.cost_nanos
    dearest = max(models, key=lambda name: models[name])
    who = key[0] if len(key) == 1 else f"{key[0]} with {dearest}"
    most = f", {models[dearest] * 100 // spent} % of it on {dearest}" if len(key) == 1 else ""
    return (
        f"{who} spent {_money(spent)} within {_minutes(span)}{most}; 15 minutes at this time of the week usually cost "
        f"{_money(band.usual)}, and {_money(band.high)} is the edge of what was learnt"
    )


def _ignored(key: Key, wrong: Wrong) -> Collection[datetime]:
    found: set[datetime] = set()
    for scope, start, end in wrong:
        # What was wrong with a component was wrong with its models, and the other way round.
        if scope.get("component") == key[0]:
            place = bucket_of(start)
            while place <= end:
                found.add(place)
                place += BUCKET
    return found


def _money(nanos: int) -> str:
    # To the cent, rounded down: a sentence for people; the exact amounts are in the anomaly's own fields.
    cents = nanos // 10_000_000
    return f"{format_nanos(Nanos(cents * 10_000_000))} {PRICE_CURRENCY}"


def _minutes(span: timedelta) -> str:
    minutes = max(1, -(-int(span.total_seconds()) // 60))
    if minutes >= 120:
        return f"{minutes // 60} hours"
    return f"{minutes} minute{'s' if minutes > 1 else ''}"
