"""Newer price data: what is plausible is taken over, the rest keeps its price until somebody decides."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from budget_bus.errors import Rejected
from budget_bus.providers import data
from budget_bus.providers.merging import Merge, merge
from budget_bus.providers.prices import PriceBook
from budget_bus.providers.siblings import siblings

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OPUS = ("anthropic", "claude-3-opus-latest")


def document() -> data.Document:
    return copy.deepcopy(data.bundled())


def model(of: data.Document, key: tuple[str, str] = OPUS) -> dict[str, Any]:
    return dict(data.models(of))[key]


def merged(fetched: data.Document, **options: Any) -> Merge:
    return merge(data.bundled(), fetched, **{"at": NOW, "factor": Decimal(2), "rejected": {}, **options})


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    data.use(None, 0)


def test_the_bundled_data_as_a_document_says_the_same() -> None:
    again = data.build(data.parse(json.dumps(data.bundled()).encode()))
    assert [provider.models for provider in again] == [provider.models for provider in data.providers().values()]
    assert sum(len(provider.models) for provider in again) > 2000


def test_the_same_data_changes_nothing() -> None:
    found = merged(document())
    assert (found.taken, found.held) == ((), ())
    assert found.document == data.bundled()


def test_a_small_move_and_a_new_model_are_taken() -> None:
    fetched = document()
    model(fetched)["prices"]["input_mtok"] = "16"
    fetched[0]["models"].append({"id": "brand-new", "match": {"equals": "brand-new"}, "prices": {"input_mtok": "1"}})
    found = merged(fetched)
    assert {change.key for change in found.taken} == {OPUS, (fetched[0]["id"], "brand-new")}
    assert found.held == ()
    assert model(found.document)["prices"]["input_mtok"] == "16"


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ({"input_mtok": "150"}, "moves from 15 to 150"),
        ({"input_mtok": "1.5"}, "moves from 15 to 1.5"),
        ({"input_mtok": "0"}, "became free"),
        ({"output_mtok": None}, "output_mtok has no price any more"),
        ({"input_mtok": {"base": "15", "tiers": [{"start": 5, "price": "90"}]}}, ""),
    ],
)
def test_what_is_not_plausible_waits_and_the_old_price_stays(prices: dict[str, Any], reason: str) -> None:
    fetched = document()
    model(fetched)["prices"] = {
        name: value for name, value in {**model(fetched)["prices"], **prices}.items() if value is not None
    }
    found = merged(fetched)
    if not reason:
        assert [change.key for change in found.taken] == [OPUS]
        return
    (held,) = found.held
    assert held.key == OPUS
    assert reason in held.reason
    assert found.document == data.bundled()


def test_what_vanishes_waits() -> None:
    fetched = document()
    for provider in fetched:
        provider["models"] = [one for one in provider["models"] if (provider["id"], one["id"]) != OPUS]
    found = merged(fetched)
    (held,) = found.held
    assert (held.key, held.after, held.reason) == (OPUS, None, "it is not there any more")
    assert model(found.document) == model(data.bundled())


def test_a_provider_that_vanishes_keeps_all_its_models() -> None:
    fetched = [provider for provider in document() if provider["id"] != "anthropic"]
    found = merged(fetched)
    assert {change.key[0] for change in found.held} == {"anthropic"}
    assert dict(data.models(found.document)) == dict(data.models(data.bundled()))


def test_what_was_rejected_is_not_asked_again_until_it_is_another() -> None:
    fetched = document()
    model(fetched)["prices"]["input_mtok"] = "150"
    rejected = {OPUS: copy.deepcopy(model(fetched))}
    (held,) = merged(fetched, rejected=rejected).held
    assert held.reason == "rejected before"
    model(fetched)["prices"]["input_mtok"] = "160"
    (held,) = merged(fetched, rejected=rejected).held
    assert "moves from 15 to 160" in held.reason


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{}", b"[]", b"[]x", b"[1]", b"<html>", b"\xff"),
        *(b'[{"id":"a"}]', b'[{"id":"a","name":"a","models":[{"id":"m"}]}]'),
    ],
)
def test_what_is_no_price_data_is_refused(raw: bytes) -> None:
    with pytest.raises(Rejected, match="price data"):
        data.parse(raw)


def test_an_amount_never_becomes_a_float() -> None:
    raw = json.dumps(data.bundled()).replace('"input_mtok": "15"', '"input_mtok": 0.1000000000000000055511')
    assert '"input_mtok": "0.1000000000000000055511"' in json.dumps(data.parse(raw.encode()))


def test_data_in_use_prices_and_suggests_and_can_be_given_back(restored: None) -> None:
    fetched = document()
    model(fetched)["prices"]["input_mtok"] = "16"
    book = PriceBook()
    assert "claude-3-opus-latest" in siblings("anthropic", NOW)
    fetched_deprecated = copy.deepcopy(fetched)
    model(fetched_deprecated)["deprecated"] = True
    data.use(fetched_deprecated, 7, "price data 7")
    assert book.use((), 2)
    price = book.price("anthropic", "claude-3-opus", NOW)
    assert price is not None
    assert price.input.base == 16_000_000
    assert price.source == "price data 7 anthropic/claude-3-opus-latest"
    assert "claude-3-opus-latest" not in siblings("anthropic", NOW)
    data.use(None, 0)
    assert book.use((), 3)
    given_back = book.price("anthropic", "claude-3-opus", NOW)
    assert given_back is not None
    assert given_back.input.base == 15_000_000
