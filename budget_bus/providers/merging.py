"""Newer price data beside the data in force: what is taken over, and what waits for somebody's approval."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from genai_prices.types import ModelInfo, TieredPrices

from budget_bus.providers import data
from budget_bus.providers.data import Document

Key = tuple[str, str]  # provider id and model id of the data


@dataclass(frozen=True, slots=True)
class Changed:
    """One model whose prices are others; None: it was not there before, or is not any more."""

    key: Key
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str = ""  # why it waits; empty: it does not


@dataclass(frozen=True, slots=True)
class Merge:
    """What fetched data comes to: the document to use, what changed in it, and what was left as it is."""

    document: Document
    taken: tuple[Changed, ...]
    held: tuple[Changed, ...]


def merge(
    current: Document,
    fetched: Document,
    *,
    at: datetime,
    factor: Decimal,
    rejected: Mapping[Key, dict[str, Any] | None],
    approved: Collection[Key] = (),
) -> Merge:
    """
    Take over what of *fetched* is plausible at the instant *at*; the rest stays as in *current*.

    A model waits when one of its prices moves by more than *factor*, up or down, when a class of its tokens loses its
    price or becomes free, or when the model vanishes. *rejected* are what somebody has refused: the same again is held
    without asking; *approved* are taken whatever they are. Names, matching and sizes are taken over always.

    Raises:
        Rejected: a document is not of the form.
    """
    old, new = dict(data.models(current)), dict(data.models(fetched))
    was, now = _parsed(current), _parsed(fetched)
    taken, held = [], []
    for key in [*new, *(key for key in old if key not in new)]:
        if key in was and key in now and _prices(was[key]) == _prices(now[key]):
            continue
        reason = "" if key in approved or key not in was else _doubt(was[key], now.get(key), at, factor)
        change = Changed(key, old.get(key), new.get(key), reason)
        if key in rejected and rejected[key] == new.get(key) and key not in approved:
            held.append(Changed(key, old.get(key), new.get(key), "rejected before"))
        elif reason:
            held.append(change)
        else:
            taken.append(change)
    return Merge(_composed(current, fetched, {change.key: change.before for change in held}), tuple(taken), tuple(held))


def _composed(current: Document, fetched: Document, kept: Mapping[Key, dict[str, Any] | None]) -> Document:
    """*fetched* with *kept* models in the place of its own; what it does not have comes last."""
    left = dict(kept)
    document = []
    for provider in fetched:
        models = [left.pop((provider["id"], model["id"]), model) for model in provider["models"]]
        models += [left.pop(key) for key in list(left) if key[0] == provider["id"]]
        document.append({**provider, "models": [model for model in models if model is not None]})
    for provider in current:
        models = [left.pop(key) for key in list(left) if key[0] == provider["id"]]
        if models:
            document.append({**provider, "models": models})
    return document


def _parsed(document: Document) -> dict[Key, ModelInfo]:
    return {(provider.id, model.id): model for provider in data.build(document) for model in provider.models}


def _prices(model: ModelInfo) -> Any:
    return model.prices, model.price_variants


def _doubt(was: ModelInfo, now: ModelInfo | None, at: datetime, factor: Decimal) -> str:
    if now is None:
        return "it is not there any more"
    before, after = dict(_amounts(was, at)), dict(_amounts(now, at))
    for name, amount in before.items():
        if amount and name not in after:
            return f"{name} has no price any more"
        if amount and not after.get(name):
            return f"{name} became free"
        if amount and not amount / factor <= after[name] <= amount * factor:
            return f"{name} moves from {amount} to {after[name]}, more than {factor} times"
    return ""


def _amounts(model: ModelInfo, at: datetime) -> Iterator[tuple[str, Decimal]]:
    for name, price in model.get_prices(at).__dict__.items():
        if isinstance(price, TieredPrices):
            yield name, price.base
            yield from ((f"{name} above {tier.start}", tier.price) for tier in price.tiers)
        elif price is not None:
            yield name, price
