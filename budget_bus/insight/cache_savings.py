"""What tokens from a provider's cache would have cost more as plain input: sums of usage -> the same with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from budget_bus.money import round_picos
from budget_bus.providers.prices import PriceBook
from budget_bus.store.reports import BinnedSum

Model = tuple[str | None, str | None]

_Place = tuple[int, str, tuple[tuple[str, str | None], ...]]
# The sums of those models anew, in steps that begin at these instants.
Finer = Callable[[Sequence[datetime], Mapping[str, Sequence[str]]], Awaitable[list[BinnedSum]]]


async def with_savings(
    sums: Sequence[BinnedSum], bins: Sequence[datetime], end: datetime, prices: PriceBook, finer: Finer
) -> list[BinnedSum]:
    """
    *sums*, of which the first bin begins at `bins[0]`, with what the cache saved in each: cached tokens at the model's
    input price less their own price, at the instant that they were used.

    Exact in picos, and rounded once for each of *sums*, so that all figures of a report are sums of the same numbers.
    The standard tier's prices for a small context are taken for all calls, because sums do not say which service tier
    and size each had: calls of the batch tier saved less, those with a long context more. A model without a price, or
    without a price for cached tokens, saves nothing. Writing to the cache is not subtracted; it is in the cost.
    """
    models = {_model(row) for row in sums if row.cache_read_input_tokens}
    if not models:
        return list(sums)
    changes = {model: _changes(prices, model, bins[0], end) for model in models}
    uneven = {model for model, instants in changes.items() if not instants.issubset(bins)}
    picos: dict[_Place, int] = defaultdict(int)
    for row in sums:
        if _model(row) not in uneven:
            picos[_place(row, row.bin)] += _saved(row, bins[row.bin], prices)
    if uneven:
        edges = sorted({*bins, *(at for model in uneven for at in changes[model])})
        outer = _outer(edges, bins)
        filters = {"provider": sorted({str(p) for p, _ in uneven}), "model": sorted({str(m) for _, m in uneven})}
        for row in await finer(edges, filters):
            if _model(row) in uneven:
                picos[_place(row, outer[row.bin])] += _saved(row, edges[row.bin], prices)
    return [replace(row, cache_savings_nanos=round_picos(picos[_place(row, row.bin)])) for row in sums]


def _changes(prices: PriceBook, model: Model, start: datetime, end: datetime) -> set[datetime]:
    return set(prices.changes(str(model[0]), str(model[1]), start, end))


def _saved(row: BinnedSum, at: datetime, prices: PriceBook) -> int:
    """Picos."""
    if not row.cache_read_input_tokens:
        return 0
    price = prices.price(str(row.key["provider"]), str(row.key["model"]), at)
    if price is None or price.cache_read is None or price.currency != row.currency:
        return 0
    return row.cache_read_input_tokens * (price.input.base - price.cache_read.base)


def _model(row: BinnedSum) -> Model:
    return row.key["provider"], row.key["model"]


def _place(row: BinnedSum, number: int) -> _Place:
    return number, row.currency, tuple(row.key.items())


def _outer(edges: Sequence[datetime], bins: Sequence[datetime]) -> list[int]:
    """For each of *edges*, in which of *bins* it lies; every one of *bins* is among them."""
    wanted, number, found = set(bins), -1, []
    for edge in edges:
        number += edge in wanted
        found.append(number)
    return found
