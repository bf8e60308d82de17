"""The published vectors: raw usage -> token classes, and their cost at the list price of the day."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from budget_bus.errors import Rejected
from budget_bus.policy.pricing import PriceStatus, Tokens, cost_of
from budget_bus.providers.extracted import Extracted
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.prices import PriceBook
from budget_bus.providers.registry import provider_of

VECTORS = Path(__file__).parents[3] / "schemas" / "examples" / "usage"
NANO = Decimal("1e-9")


def _all() -> list[Any]:
    files = sorted(VECTORS.glob("*.json"))
    return [pytest.param(json.loads(file.read_text()), id=file.stem) for file in files]


def _of_kind(kind: str) -> list[Any]:
    return [param for param in _all() if kind in param.values[0]]


def extract(vector: dict[str, Any]) -> Extracted:
    raw = vector["response"] if "response" in vector else vector["chunks"]
    return provider_of(vector["provider"]).usage(raw, vector["model"])


@pytest.mark.parametrize("vector", _of_kind("expected"))
def test_the_token_classes_of_a_vector(vector: dict[str, Any]) -> None:
    found, expected = extract(vector), vector["expected"]
    assert found.tokens._asdict() == dict.fromkeys(Tokens._fields, 0) | expected["tokens"]
    assert found.estimated is expected["estimated"]
    assert bool(found.notes) is found.estimated
    assert (found.service_tier or "standard") == expected["service_tier"]
    assert found.reported_cost == (Decimal(expected["reported_cost"]) if "reported_cost" in expected else None)


@pytest.mark.parametrize("vector", _of_kind("rejected"))
def test_a_vector_that_says_nothing_usable_is_refused_by_its_field(vector: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        extract(vector)
    assert [error.field for error in refused.value.errors] == [vector["rejected"]["field"]]


@pytest.mark.parametrize("vector", _of_kind("cost"))
def test_the_cost_of_a_vector_at_its_date(vector: dict[str, Any]) -> None:
    provider = canonical_provider(vector["provider"])
    at = datetime.fromisoformat(vector["at"])
    price = PriceBook().price(provider, vector["model"], at, vector["expected"]["service_tier"])
    assert price is not None
    assert price.status is (PriceStatus.PRICED if vector["cost"]["lines"] else PriceStatus.FREE)
    assert cost_of(extract(vector).tokens, price).total * NANO == Decimal(vector["cost"]["usd"]).quantize(NANO)


@pytest.mark.parametrize("vector", _of_kind("cost"))
def test_the_arithmetic_of_a_vector_is_right_and_charges_every_token_once(vector: dict[str, Any]) -> None:
    lines, tokens = vector["cost"]["lines"], vector["expected"]["tokens"]
    assert sum(Decimal(line["usd_per_1m"]) * line["tokens"] for line in lines) / 10**6 == Decimal(vector["cost"]["usd"])
    if lines:
        assert sum(line["tokens"] for line in lines) == tokens["input"] + tokens["output"]
    assert vector["cost"]["source"]["page"].startswith("https://")


@pytest.mark.parametrize("vector", _all())
def test_a_vector_says_where_it_is_from_and_why_it_has_no_cost(vector: dict[str, Any]) -> None:
    assert vector["form_documented_at"].startswith("https://")
    assert sum(key in vector for key in ("cost", "no_cost", "rejected")) == 1
    assert sum(key in vector for key in ("response", "chunks")) == 1


def test_there_are_vectors_of_every_provider_with_a_form_of_its_own() -> None:
    count = Counter(param.values[0]["provider"] for param in _all())
    assert sum(count.values()) >= 60
    for provider in ("openai", "anthropic", "google", "mistral", "deepseek", "xai", "groq", "bedrock", "azure"):
        assert count[provider] >= 4
    assert count["openrouter"] >= 4
    assert count["ollama"] >= 4
