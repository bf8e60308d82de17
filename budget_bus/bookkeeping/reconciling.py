"""Our costs beside the provider's own, per UTC day and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import asyncpg

from budget_bus.consumers.facts import Drifted, tell_drift
from budget_bus.providers.book import find_entry
from budget_bus.providers.invoices import read_invoice
from budget_bus.store import invoices
from budget_bus.store.invoices import Booked, Invoiced


@dataclass(slots=True)
class Drift:
    """
    One model of a provider on one UTC day, in nanos of *currency*. *model* None: items that name none.

    `names` are the names that either side has for the model. What is `unpriced` has no cost in the books.
    """

    provider: str
    day: date
    model: str | None
    currency: str
    ours: int = 0
    theirs: int = 0
    requests: int = 0
    unpriced_requests: int = 0
    names: tuple[str, ...] = ()
    items: tuple[str, ...] = ()

    @property
    def difference(self) -> int:
        """What they charged beyond what we booked."""
        return self.theirs - self.ours

    @property
    def percent(self) -> str | None:
        """The difference in percent of what they charged, cut to one decimal; None where they charged nothing."""
        if not self.theirs:
            return None if self.ours else "0.0"
        permille = abs(self.difference) * 1000 // abs(self.theirs)
        sign = "-" if permille and (self.difference < 0) != (self.theirs < 0) else ""
        return f"{sign}{permille // 10}.{permille % 10}"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to."""

    provider: str
    days: tuple[date, ...]
    lines: int
    changed: int
    alerts: int


async def import_invoice(
    pool: asyncpg.Pool, raw: bytes, *, actor: str, alert_percent: int, now: datetime | None = None
) -> Imported:
    """
    Take an export for all that is known of its days; the same again changes nothing.

    A model whose costs over all of these days differ by more than *alert_percent* of what was charged is alerted of
    (`price_drift`), once for the same days.

    Raises:
        Rejected: names the place that is wrong; nothing is taken.
    """
    read = read_invoice(raw)
    # The same item may be told once with a model and once without: it is one line then.
    sums: dict[tuple[date, str, str], tuple[str | None, int]] = {}
    for line in read.lines:
        key = (line.day, line.item, line.currency)
        model, nanos = sums.get(key, (None, 0))
        sums[key] = (model or line.model, nanos + line.cost_nanos)
    rows = [(day, item, model, currency, nanos) for (day, item, currency), (model, nanos) in sums.items()]
    changed = await invoices.replace(pool, read.provider, read.days, rows, actor=actor)
    alerts = await _alert(pool, read.provider, read.days, alert_percent, now or datetime.now(UTC)) if read.days else 0
    return Imported(read.provider, read.days, len(rows), changed, alerts)


async def _alert(pool: asyncpg.Pool, provider: str, days: Sequence[date], percent: int, now: datetime) -> int:
    sums: dict[tuple[str | None, str], Drift] = {}
    for one in await drifts(pool, days[0], days[-1] + timedelta(days=1), providers=[provider]):
        total = sums.setdefault((one.model, one.currency), Drift(provider, days[0], one.model, one.currency))
        total.ours += one.ours
        total.theirs += one.theirs
    far = [one for one in sums.values() if abs(one.difference) * 100 > abs(one.theirs) * percent]
    async with pool.acquire() as connection, connection.transaction():
        return await tell_drift(
            connection,
            [Drifted(provider, one.model, one.currency, one.ours, one.theirs, one.percent) for one in far],
            first=days[0],
            last=days[-1],
            now=now,
        )


async def drifts(
    pool: asyncpg.Pool, start: date, end: date, *, providers: Sequence[str] = (), models: Sequence[str] = ()
) -> list[Drift]:
    """
    Every model and day in `[start, end)` of which either side has something, where an export of the day was imported.

    Names are compared as the price data knows them, so that a dated name and its alias are one model.
    """
    theirs = await invoices.invoiced(pool, start, end, providers)
    known = {(line.provider, line.day) for line in theirs}
    ours = [row for row in await invoices.booked(pool, start, end, providers) if (row.provider, row.day) in known]
    found = _joined(theirs, ours)
    return [one for one in found if not models or one.model in models or set(one.names) & set(models)]


def _joined(theirs: Iterable[Invoiced], ours: Iterable[Booked]) -> list[Drift]:
    found: dict[tuple[str, date, str | None, str], Drift] = {}
    names: dict[int, set[str]] = defaultdict(set)
    items: dict[int, set[str]] = defaultdict(set)

    def drift(provider: str, day: date, model: str | None, currency: str) -> Drift:
        known = None if model is None else _known(provider, model)
        one = found.setdefault((provider, day, known, currency), Drift(provider, day, known, currency))
        if model is not None:
            names[id(one)].add(model)
        return one

    for line in theirs:
        one = drift(line.provider, line.day, line.model, line.currency)
        one.theirs += line.cost_nanos
        items[id(one)].add(line.item)
    for row in ours:
        one = drift(row.provider, row.day, row.model, row.currency)
        one.ours += row.cost_nanos
        one.requests += row.requests
        one.unpriced_requests += row.unpriced_requests
    for one in found.values():
        one.names, one.items = tuple(sorted(names[id(one)])), tuple(sorted(items[id(one)]))
    return sorted(found.values(), key=lambda one: (one.provider, one.day, one.model or "", one.currency))


def _known(provider: str, model: str) -> str:
    entry = find_entry(provider, model)
    return entry.model.id if entry is not None and entry.own else model
