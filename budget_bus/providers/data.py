"""
The price data of this process: genai-prices' own, or a newer document of the same form that the books have kept.

A document is a list of providers with their models, as JSON; amounts are strings, so that none becomes a float.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from genai_prices import __version__ as bundled_version
from genai_prices.data import providers as _bundled

# Private, yet the one reader of the form that the library publishes its data in; the version is pinned.
from genai_prices.types import ModelPrice, Provider, _providers_from_raw
from pydantic import ValidationError

from budget_bus.errors import Rejected

Document = list[dict[str, Any]]

BUNDLED: Final = f"genai-prices {bundled_version}"
_ALIASES: Final = {"or_": "or", "and_": "and"}


class _Data:
    """What is in use: its number in the books (0: the bundled one), its name, and its providers by id."""

    def __init__(self) -> None:
        self.data_id = 0
        self.source = BUNDLED
        self.providers: Mapping[str, Provider] = {provider.id: provider for provider in _bundled}
        self.forget: list[Callable[[], None]] = []


_data = _Data()


def data_id() -> int:
    """The number of the document that is in use; 0 is the bundled data."""
    return _data.data_id


def source() -> str:
    """Where the data in use is from, for the ledger."""
    return _data.source


def providers() -> Mapping[str, Provider]:
    """The providers of the data in use, by their ids there."""
    return _data.providers


def on_change(forget: Callable[[], None]) -> None:
    """Have *forget* called whenever other data comes into use: whoever remembers what it looked up."""
    _data.forget.append(forget)


def use(document: Document | None, number: int, name: str = BUNDLED) -> None:
    """
    Use *document*, or the bundled data.

    Raises:
        Rejected: it is not of the form; what was in use stays.
    """
    found = _bundled if document is None else build(document)
    _data.data_id, _data.source = number, name
    _data.providers = {provider.id: provider for provider in found}
    for forget in _data.forget:
        forget()


@lru_cache(maxsize=1)
def bundled() -> Document:
    """The data that came with the installed release, as a document."""
    document: Document = _plain(_bundled)
    return document


def parse(raw: bytes) -> Document:
    """
    Read a document.

    Raises:
        Rejected: it is not JSON of the form that genai-prices publishes, or it is empty.
    """
    try:
        document: Document = json.loads(raw, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"the price data is not JSON: {error}") from None
    listed = isinstance(document, list) and all(isinstance(one, dict) and one.get("models") for one in document)
    if not listed or not document:
        raise Rejected("the price data is not a list of providers with their models, as genai-prices publishes it")
    build(document)
    return document


def build(document: Document) -> list[Provider]:
    """
    A document's providers.

    Raises:
        Rejected: names the first thing that is wrong with it.
    """
    try:
        return _providers_from_raw(document)
    except (ValidationError, ValueError, TypeError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            error = ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        raise Rejected(f"the price data is not of the form that genai-prices publishes: {error}") from None


def models(document: Document) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """(provider id, model id) -> the model, as JSON."""
    for provider in document:
        for model in provider.get("models", ()):
            yield (provider["id"], model["id"]), model


def _plain(value: Any) -> Any:
    """Objects of the library as the JSON that it reads."""
    if isinstance(value, ModelPrice):
        return {key: _plain(one) for key, one in value.__dict__.items() if one is not None}
    if dataclasses.is_dataclass(value):
        said = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if not one.name.startswith("_")}
        return {_ALIASES.get(name, name): _plain(one) for name, one in said.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (date, time)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
