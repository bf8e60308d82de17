"""
`python -m bench.anomalies`: how often the watch is wrong on real traffic, and how soon it sees what is wrong.

The two public traces of real calls (one hour each, found in ../shared/data) are laid end to end for 35 days, each hour
from another place of the trace, thinned by the hour of the day and the day of the week. Four weeks are learnt; in the
fifth it is looked once a minute. No database: the rules and what they are handed are those of production.
"""

from __future__ import annotations

import argparse
import csv
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from bench import machine
from budget_bus.insight.finding import looping, silent, too_fast
from budget_bus.insight.learnt import Learnt
from budget_bus.policy.velocity import BUCKET, bucket_of
from budget_bus.store.anomalies import Finding, TurnRow, Used

DATA = Path(__file__).parents[2] / "shared" / "data"
START = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday
MINUTE = timedelta(minutes=1)
WEEK = timedelta(days=7)
LEARNT = timedelta(days=28)
FLOOR = 500_000_000
# Of the trace's calls, in percent: nights, working hours, evenings; a sixth of that at weekends.
HOURS = (4, 3, 2, 2, 3, 6, 15, 35, 70, 95, 100, 95, 80, 90, 100, 95, 85, 65, 45, 35, 30, 22, 14, 8)
FACTORS = (3, 5, 10, 30)
INJECTIONS = 100

Minutes = dict[datetime, Used]


def trace(name: str) -> list[list[int]]:
    """The cost in nanos of each call of each minute of a trace, as openai/gpt-4o."""
    minutes: dict[int, list[int]] = defaultdict(list)
    with (DATA / f"AzureLLMInferenceTrace_{name}.csv").open() as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC)
            cost = int(row["ContextTokens"]) * 2_500 + int(row["GeneratedTokens"]) * 10_000
            minutes[int(at.timestamp()) // 60].append(cost)
    whole = sorted(minutes)[1:-1]
    return [minutes[minute] for minute in range(whole[0], whole[-1] + 1)]


def traffic(name: str, thin: float, chance: random.Random) -> Minutes:
    """35 days of a component of that name, by minute."""
    source, found, at = trace(name), Minutes(), START
    shift = 0
    while at < START + LEARNT + WEEK:
        if at.minute == 0:
            shift = chance.randrange(len(source))
        share = thin * HOURS[at.hour] / 100 / (6 if at.weekday() >= 5 else 1)
        kept = [cost for cost in source[(shift + at.minute) % len(source)] if chance.random() < share]
        if kept:
            found[at] = Used(at, name, "openai", "gpt-4o", len(kept), sum(kept))
        at += MINUTE
    return found


def in_buckets(minutes: Minutes) -> list[Used]:
    """As the rollups have it, in order."""
    found: Minutes = {}
    for at, used in minutes.items():
        place = bucket_of(at)
        before = found.get(place)
        requests, cost = (before.requests, before.cost_nanos) if before else (0, 0)
        found[place] = used._replace(at=place, requests=requests + used.requests, cost_nanos=cost + used.cost_nanos)
    return [found[place] for place in sorted(found)]


def learn(buckets: list[Used], until: datetime) -> Learnt:
    """What the rollups of four weeks before *until* teach."""
    learnt = Learnt()
    learnt.take([used for used in buckets if until - LEARNT <= used.at < until], until - LEARNT)
    return learnt


def last_minutes(minutes: Minutes, now: datetime) -> list[Used]:
    places = (now - n * MINUTE for n in range(1, BUCKET // MINUTE + 1))
    return [minutes[place] for place in places if place in minutes]


def looks(minutes: Minutes) -> Iterator[tuple[datetime, list[Finding]]]:
    """What is found in the fifth week, minute by minute."""
    now, learnt, buckets = START + LEARNT, Learnt(), in_buckets(minutes)
    while now < START + LEARNT + WEEK:
        if bucket_of(now) == now:
            learnt = learn(buckets, now)
        recent = last_minutes(minutes, now)
        yield now, [*too_fast(learnt, recent, now, floor=FLOOR, used_up={}), *silent(learnt, recent, now)]
        now += MINUTE


def episodes(minutes: Minutes) -> dict[str, int]:
    """How many alerts there are of each kind: what comes again within 15 minutes is the same one."""
    seen: dict[str, datetime] = {}
    found: dict[str, int] = defaultdict(int)
    for now, findings in looks(minutes):
        for finding in findings:
            if finding.kind not in seen or now - seen[finding.kind] > BUCKET:
                found[finding.kind] += 1
            seen[finding.kind] = now
    return dict(found)


def delay(minutes: Minutes, buckets: list[Used], at: datetime, factor: int) -> int | None:
    """After how many minutes it is seen that *factor* times the hour's usual is spent on top; None: not in an hour."""
    learnt, changed = learn(buckets, bucket_of(at)), dict(minutes)
    name = next(iter(minutes.values())).component
    here = at.replace(minute=0)
    hour = [here - WEEK * n + m * MINUTE for n in (1, 2, 3, 4) for m in range(60)]
    usual = sum(minutes[place].cost_nanos for place in hour if place in minutes) // len(hour)
    for n in range(60):
        place = at + n * MINUTE
        before = changed.get(place, Used(place, name, "openai", "gpt-4o", 0, 0))
        changed[place] = before._replace(cost_nanos=before.cost_nanos + factor * usual)
        now = place + MINUTE
        if [*too_fast(learnt, last_minutes(changed, now), now, floor=FLOOR, used_up={})]:
            return n + 1
    return None


def conversations(name: str, chance: random.Random) -> list[TurnRow]:
    """
    The trace's calls as those of 150 people at a time, who write 1 to 60 times, each time with the whole conversation
    as input, and with the trace's pauses.
    """
    rows, contexts, talking = [], count(1), list[list[int]]()
    with (DATA / f"AzureLLMInferenceTrace_{name}.csv").open() as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC)
            while len(talking) < 150:
                talking.append([next(contexts), chance.randint(1, 60), 0])
            one = talking.pop(chance.randrange(len(talking)))
            one[1], one[2] = one[1] - 1, one[2] + int(row["ContextTokens"])
            cost = one[2] * 2_500 + int(row["GeneratedTokens"]) * 10_000
            rows.append(TurnRow(str(one[0]), name, at, "openai", "gpt-4o", one[2], cost))
            if one[1]:
                talking.append(one)
    return sorted(rows, key=lambda row: (row.context_id, row.at))


def pace_of(rows: list[TurnRow]) -> int:
    """How many calls of a context within a quarter of an hour 99.5 % stay within."""
    calls = sorted(Counter((row.context_id, bucket_of(row.at)) for row in rows).values())
    return calls[len(calls) * 995 // 1000]


def called_loops(rows: list[TurnRow], learnt: Learnt) -> set[str]:
    """The contexts that are called loops, looked at once a minute."""
    found: set[str] = set()
    starts = sorted({row.at.replace(second=0, microsecond=0) for row in rows})
    for now in starts[bisect_left(starts, starts[0] + BUCKET) :]:
        within = [row for row in rows if now - BUCKET < row.at <= now]
        found |= {str(one.scope["context_id"]) for one in looping(learnt, within, now, floor=FLOOR, used_up={})}
    return found


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.anomalies", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--injections", type=int, default=INJECTIONS)
    options = parser.parse_args()
    print(f"python -m bench.anomalies --seed {options.seed} --injections {options.injections}; {machine.commit()}")
    for name in ("conv", "code"):
        for thin in (1.0, 0.1, 0.01):
            chance = random.Random(options.seed)
            minutes = traffic(name, thin, chance)
            buckets = in_buckets(minutes)
            cost = sum(used.cost_nanos for used in minutes.values()) / 1e9 / 35
            print(f"{name}, {thin:.0%} of the trace, {cost:,.2f} USD a day:")
            print(f"  false alerts in 7 days (10,080 looks): {episodes(minutes) or 'none'}")
            for factor in FACTORS:
                found = []
                for _ in range(options.injections):
                    at = START + LEARNT + chance.randrange(7 * 1440 - 60) * MINUTE
                    found.append(delay(minutes, buckets, at, factor))
                seen = sorted(one for one in found if one is not None)
                told = f"after {seen[len(seen) // 2]} min (median), {seen[len(seen) * 9 // 10]} (p90)" if seen else ""
                print(f"  {factor:2} times the usual on top: {len(seen)} of {len(found)} seen within an hour {told}")
    for name in ("conv", "code"):
        rows = conversations(name, random.Random(options.seed))
        pace = pace_of(rows)
        learnt = Learnt(paces={(name, "openai", "gpt-4o"): pace})
        known, unknown = (len(called_loops(rows, one)) for one in (learnt, Learnt()))
        people = len({row.context_id for row in rows})
        print(f"{name} dealt to {people} conversations, at most {pace} calls of one in 15 minutes:")
        print(f"  called loops: {known} where this pace is known, {unknown} where it is not")


if __name__ == "__main__":
    main()
