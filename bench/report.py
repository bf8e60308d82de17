"""The results as JSON, one file per run, and all of them as a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.forecast import SHAPES

RESULTS = Path(__file__).parent / "results"

_UNITS = {
    "events_per_second": "events/s",
    "per_second": "checks/s",
    "p50_ms": "ms",
    "p90_ms": "ms",
    "p99_ms": "ms",
    "voided_per_second": "calls/s",
    "used_up_per_second": "calls/s",
    "rows_per_second": "rows/s",
    "first_paint_ms": "ms",
    "import_ms": "ms",
    "help_ms": "ms",
    "update_ms": "ms",
    "delivered_per_second": "alerts/s",
    "kib_per_client": "KiB",
    "report_ms": "ms",
    "exported_per_second": "rows/s",
    "export_mib": "MiB",
    **{f"{shape}_{what}_percent": "%" for shape in SHAPES for what in ("error", "exhaustion", "plan")},
}
_WHAT = {
    "voided_per_second": "lease, each voided",
    "used_up_per_second": "lease, used up",
    "first_paint_ms": "dashboard, first paint",
    "import_ms": "import budget.client",
    "help_ms": "budget --help",
    "update_ms": "dashboard, update",
    "kib_per_client": "feed, memory of a client",
    "report_ms": "report of a month",
    "export_mib": "export, memory of the gateway",
    **{f"{shape}_error_percent": f"forecast, {shape}: error" for shape in SHAPES},
    **{f"{shape}_exhaustion_percent": f"forecast, {shape}: exhaustion in the band" for shape in SHAPES},
    **{f"{shape}_plan_percent": f"forecast, {shape}: others within the plan" for shape in SHAPES},
}

_INTRODUCTION = """# Benchmarks

Ours beside the floor: the least that a Python program on Kafka and PostgreSQL has to do, on the same machine, in the
same run, taking turns. The median of the rounds; *spread* is (highest - lowest) / median. Ratio is ours / floor:
for events/s, checks/s and calls/s higher is better, for ms and errors lower is.

* **settle**: `usage.recorded` into the books by one settler process. Floor: poll, validate each record, one
  `INSERT .. ON CONFLICT DO NOTHING` into a plain table per batch of up to 2,000, commit in PostgreSQL and in Kafka.
  Both commit with `synchronous_commit = off`, because the log is the durable copy.
* **check**: from the SDK over `check.requested`, one decider process with one budget, and `check.response` back.
  p50 to p99 one at a time, checks/s with 64 in flight. Floor: a process that polls, makes one durable PostgreSQL
  commit without content per batch, and sends the question back. Both commit with `synchronous_commit = on`.
* **lease**: calls admitted by one process from leases of 100,000 calls on three hard budgets, without awaiting. *Each
  voided*: one lease, every call is admitted and taken back. *Used up*: none is taken back, so the next leases are taken
  from one decider process, which is in the time. Floor: a loop that compares with and subtracts from three numbers (and
  adds to them again), nothing else.

* **restate**: ledger rows that get a corrected price, with what they cost before, their rollups and balances, by one
  connection while one settler process settles events. The difference that is shown first is not in the time. Floor: one
  `UPDATE` of one column of as many rows. Both with `synchronous_commit = on`.
* **dashboard**: first contentful paint in a Chromium with an empty cache, with 90 days of real traffic in the ledger
  (28,185 calls); and from sending a call to `POST /api/record` until the page shows it. Floor: the first paint of one
  word from the same gateway, and `POST /api/record?wait=true`, which is answered once the call is in the ledger.
* **feed**: alerts on the topic `budget.alerts` to all WebSocket clients of one gateway process, while one client more
  reads nothing: each of the others hears each alert once, or there is no result. p50 and p99 are over clients and
  alerts, from before an alert is published until a client has it, one alert at a time; alerts/s counts each client's,
  with 100 published at once; memory is the growth of the resident set. Floor: a consumer and the broadcast of the
  package websockets, without snapshot, queue, filter or the stuck client. All clients are in one process.
* **report**: `GET /api/reports/summary?days=30&group_by=component` over ten times as many ledger rows as are exported,
  of 12 components, 40 contexts and 3 models; medians of 15. Floor: one statement that sums the same rollups by day and
  component.
* **export**: `GET /api/reports/export` of a month, and by how much the gateway's largest resident set grew. Floor:
  `COPY TO` of the same rows in the same order by asyncpg, whose memory is written as 1 MiB.
* **forecast**: budgets of a day, a week and a month over 90 days made of the hour of the real traces (28,185 calls of
  four components at list prices), forecast every 29 hours from day 40 on, of nothing but the hours before. *Even*: the
  n-th of N calls of a trace is at n/N of the 90 days. *Stretched*: a call is where it was in the hour, of 90 days.
  *Daily*: the n-th call is on day n mod 90, at the time of day where it was in the hour, so every day has the hour's
  shape, with other calls. The error is the mean absolute percentage error of a window's amount; floor: the straight
  line, from the same origins (not before a twentieth of the window is over). *Exhaustion in the band*: how often a
  limit of 90 % of the average window ran out within the band, or lasted when the band said that it may; floor: the 90 %
  that the band is stated to have. *Others within the plan*: how often three components spent at most what a plan of the
  fourth keeps for them until the window's end with 90 % confidence; floor: these 90 %.
* **startup**: a new process that imports `budget.client`, and one that prints `budget --help`; medians of 15. Floor: an
  interpreter that does nothing.

PostgreSQL runs with `fsync = on`, Kafka with one node and `acks = all`. Clients, processes, PostgreSQL and Kafka share
the machine's cores. `python -m bench --help` tells how to measure again.
"""


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and spread of each number over the rounds."""
    out = {}
    for name in rounds[0]:
        values = [numbers[name] for numbers in rounds]
        middle = statistics.median(values)
        out[name] = {"median": middle, "spread": (max(values) - min(values)) / middle}
    return out


def compared(floor: Sequence[dict[str, float]], ours: Sequence[dict[str, float]]) -> dict[str, Any]:
    """One benchmark's rounds, their summaries and the ratio of the medians."""
    low, high = summary(floor), summary(ours)
    return {
        "floor": {"rounds": list(floor), "summary": low},
        "ours": {"rounds": list(ours), "summary": high},
        "ratio": {name: high[name]["median"] / low[name]["median"] for name in high},
    }


def lines(benchmark: str, result: dict[str, Any]) -> list[str]:
    """The rows of one benchmark in the table."""
    rows = []
    for name, ratio in result["ratio"].items():
        floor, ours = result["floor"]["summary"][name], result["ours"]["summary"][name]
        what = _WHAT.get(name) or (f"{benchmark} {name.removesuffix('_ms')}" if name.endswith("_ms") else benchmark)
        cells = (what, _UNITS[name], _cell(ours), _cell(floor), f"{ratio:.2f}")
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def save(result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write the run beside the others, and the table of all of them anew."""
    folder.mkdir(parents=True, exist_ok=True)
    # Runs of one benchmark each, of the same commit, are kept beside each other.
    only = f"-{next(iter(result['benchmarks']))}" if len(result["benchmarks"]) == 1 else ""
    file = folder / f"{result['at'][:10]}-{result['commit']}{only}{'-quick' if result['quick'] else ''}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    runs = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    sections = [_section(run) for run in sorted(runs, key=lambda run: str(run["at"]), reverse=True)]
    (folder / "README.md").write_text("\n".join([_INTRODUCTION, *sections]))
    return file


def _cell(number: dict[str, float]) -> str:
    median = number["median"]
    text = f"{median:,.0f}" if median >= 100 else f"{median:.1f}" if median >= 10 else f"{median:.2f}"
    return f"{text} ± {number['spread']:.0%}"


def _section(run: dict[str, Any]) -> str:
    machine = run["machine"]
    tree = f"{run['commit']}{' with changes' if run['dirty'] else ''}"
    where = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"Python {machine['python']}, PostgreSQL {machine['postgresql']}, {machine['broker']}, "
        f"load before {machine['load_before']}"
    )
    table = ["| what | unit | ours (spread) | floor (spread) | ratio |", "|---|---|--:|--:|--:|"]
    for name, result in run["benchmarks"].items():
        table += lines(name, result)
    said = f"`{run['command']}`, {run['rounds']} rounds. {run['workload']}"
    return "\n".join([f"## {run['at'][:16]}Z, commit {tree}", "", where, "", said, "", *table, ""])
