"""FOCUS: money is parted to the last digit, and what may not be empty is not."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.insight import focus
from budget_bus.providers.prices import PriceBook

# Columns that FOCUS 1.2 lets nobody leave empty: https://focus.finops.org/focus-specification/v1-2/
NEVER_EMPTY = (
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost",
    "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory", "PricingQuantity",
    "PricingUnit", "ConsumedQuantity", "ConsumedUnit",
)  # fmt: skip
COUNTS = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "cache_creation_1h_input_tokens", "reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens",
    "input_image_tokens", "output_image_tokens",
)  # fmt: skip


def row(**fields: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COUNTS, 0),
        "event_id": uuid.UUID(int=1), "occurred_at": datetime(2026, 11, 30, 23, 59, 59, 5, UTC), "component": "codex",
        "provider": "anthropic", "model": "claude-sonnet-4-5", "service_tier": "standard", "task_type": None,
        "context_id": None, "user": None, "tags": {"team": "a"}, "token_source": "provider", "cost_nanos": 0,
        "input_cost_nanos": 0, "currency": "USD", "price_status": "priced", **fields,
    }  # fmt: skip


def lines(*rows: dict[str, Any]) -> list[dict[str, str]]:
    text = (focus.header() + focus.lines(rows, PriceBook())).decode()
    return [*csv.DictReader(io.StringIO(text), strict=True)]


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=8))
def test_parts_add_up_and_none_is_negative(nanos: int, weights: list[int]) -> None:
    parts = focus.part(nanos, weights)
    assert (sum(parts), len(parts)) == (nanos, len(weights))
    assert min(parts) >= 0
    total = sum(weights)
    if total:
        assert all(abs(one * total - nanos * weight) < total for one, weight in zip(parts, weights, strict=True))


def test_a_row_for_each_class_of_tokens_with_the_ledger_s_cost_to_the_last_digit() -> None:
    found = lines(
        row(input_tokens=1000, cache_read_input_tokens=300, cache_creation_input_tokens=200, output_tokens=77,
            cost_nanos=3_123_456_789, input_cost_nanos=2_000_000_001)
    )  # fmt: skip
    assert [(one["x_TokenType"], one["PricingQuantity"]) for one in found] == [
        ("input", "500.0"),
        ("cache_read", "300.0"),
        ("cache_creation", "200.0"),
        ("output", "77.0"),
    ]
    assert sum(Decimal(one["BilledCost"]) for one in found) == Decimal("3.123456789")
    assert sum(Decimal(one["BilledCost"]) for one in found[:3]) == Decimal("2.000000001")
    assert [one["x_ChargeNumber"] for one in found] == ["1", "2", "3", "4"]
    for one in found:
        assert Decimal(one["ListCost"]) == Decimal(one["ListUnitPrice"]) * Decimal(one["PricingQuantity"])
        assert (one["BillingPeriodStart"], one["BillingPeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
        assert (one["ChargePeriodStart"], one["ChargePeriodEnd"]) == ("2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(row(input_tokens=5, output_tokens=5, cost_nanos=100, input_cost_nanos=50), id="priced"),
        pytest.param(row(output_tokens=5, cost_nanos=100, input_cost_nanos=0), id="without input"),
        pytest.param(row(cost_nanos=7, input_cost_nanos=None), id="without tokens, at a cost that was reported"),
        pytest.param(
            row(model="nobody-s", input_tokens=5, cost_nanos=None, input_cost_nanos=None, price_status="unpriced"),
            id="unpriced",
        ),
        pytest.param(row(model="=1+1", component="=2", user="@x", input_tokens=1), id="names like formulas"),
    ],
)
def test_what_may_not_be_empty_is_not_and_costs_are_kept(event: dict[str, Any]) -> None:
    found = lines(event)
    assert found
    for one in found:
        assert [name for name in NEVER_EMPTY if not one[name]] == []
        assert one["x_PriceStatus"] == event["price_status"]
        assert not [value for value in one.values() if value[:1] in ("=", "@", "+", "-")]
    assert sum(Decimal(one["BilledCost"]) for one in found) * 10**9 == (event["cost_nanos"] or 0)
