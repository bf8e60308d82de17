"""
The ledger in FOCUS 1.2, the FinOps Open Cost and Usage Specification: a row for each charge of each event.

Names, formats and which columns may be empty are the specification's: https://focus.finops.org/focus-specification/v1-2/
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from budget_bus.insight.report_formats.cells import spreadsheet_text
from budget_bus.money import PicosPerToken, format_nanos
from budget_bus.policy.pricing import Charge, Charges, Price, Rate, Tokens, charges_of
from budget_bus.providers.prices import PriceBook

_METERS: Final = {
    "input": "Input Tokens",
    "cache_read": "Cached Input Tokens",
    "cache_creation": "Cache Write Tokens",
    "cache_creation_1h": "Cache Write Tokens, 1 Hour",
    "input_audio": "Input Audio Tokens",
    "input_image": "Input Image Tokens",
    "output": "Output Tokens",
    "reasoning_output": "Reasoning Tokens",
    "output_audio": "Output Audio Tokens",
    "output_image": "Output Image Tokens",
    "request": "Requests",
}
_EMPTY: Final = (
    "AvailabilityZone", "CapacityReservationId", "CapacityReservationStatus", "ChargeClass",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "InvoiceId", "RegionId",
    "RegionName",
)  # fmt: skip
COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeDescription", "ChargeFrequency",
    "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingCurrency", "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter",
    "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags", *_EMPTY,
    "x_EventId", "x_TokenType", "x_PriceStatus", "x_ServiceTier", "x_TokenSource", "x_TaskType", "x_ContextId",
    "x_User", "x_ChargeNumber",
)  # fmt: skip
"""x_ChargeNumber counts the charges of an event from 1, and stands last: so the events of a file can be counted."""

# Names that callers choose; all else is ours.
_NAMED: Final = ("ResourceId", "ResourceName", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "x_TaskType",
                 "x_ContextId", "x_User")  # fmt: skip
_NOTHING: Final = Price(input=Rate(PicosPerToken(0)), output=Rate(PicosPerToken(0)))


def header() -> bytes:
    """The first line."""
    return (",".join(COLUMNS) + "\n").encode()


def lines(rows: Iterable[Mapping[str, Any]], prices: PriceBook) -> bytes:
    """
    The lines of ledger rows, each with at least one charge.

    `BilledCost` is what the ledger says, parted among an event's charges in the proportion of their list prices and to
    the last digit: the sum of the column is the sum of the ledger. `ListCost` is at the prices known now for the
    event's time. A row without a price costs 0 here, as the column may not be empty; `x_PriceStatus` says `unpriced`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        for charge in _charges(row, prices):
            writer.writerow([charge.get(name, "") for name in COLUMNS])
    return out.getvalue().encode()


def _charges(row: Mapping[str, Any], prices: PriceBook) -> Iterator[dict[str, Any]]:
    price = prices.price(row["provider"], row["model"], row["occurred_at"], row["service_tier"])
    charges = charges_of(_tokens(row), price or _NOTHING)
    common = _common(row)
    billed = _billed(row, charges)
    # Every event has a row, also one without tokens.
    found = [*charges.input, *charges.output] or [Charge("input", 0, (price or _NOTHING).input.base)]
    for number, (charge, nanos) in enumerate(zip(found, billed, strict=True), start=1):
        yield common | _charge(row, charge, nanos, price) | {"x_ChargeNumber": number}


def _billed(row: Mapping[str, Any], charges: Charges) -> list[int]:
    """The nanos of each charge; their sum is the row's cost."""
    cost = row["cost_nanos"] or 0
    sides = (charges.input, charges.output)
    if not all(sides) or row["input_cost_nanos"] is None:
        return part(cost, [charge.picos for side in sides for charge in side] or [0])
    return part(row["input_cost_nanos"], [charge.picos for charge in charges.input]) + part(
        cost - row["input_cost_nanos"], [charge.picos for charge in charges.output]
    )


def part(nanos: int, weights: Sequence[int]) -> list[int]:
    """*nanos* in whole parts proportional to *weights*, which add up to it; all to the first if nothing has weight."""
    total = sum(weights)
    if not total:
        return [nanos, *[0] * (len(weights) - 1)]
    found, given, upto = [], 0, 0
    for weight in weights:
        upto += weight
        found.append(nanos * upto // total - given)
        given += found[-1]
    return found


def _charge(row: Mapping[str, Any], charge: Charge, nanos: int, price: Price | None) -> dict[str, Any]:
    fee = charge.kind == "request"
    unit = "Requests" if fee else "Tokens"
    # The specification's validator takes a whole number for a text, so all quantities have a point.
    quantity = "1.0" if fee else f"{charge.tokens}.0"
    each = "" if price is None else _picos(charge.fee_picos if fee else charge.picos_per_token)
    listed = format_nanos(nanos) if price is None else _picos(charge.picos)
    meter, billed = _METERS[charge.kind], format_nanos(nanos)
    sku = f"{row['provider']}/{row['model']}"
    return {
        "BilledCost": _decimal(billed),
        "EffectiveCost": _decimal(billed),
        "PricingCurrencyEffectiveCost": _decimal(billed),
        "ListCost": _decimal(listed),
        "ContractedCost": _decimal(listed),
        "ListUnitPrice": _decimal(each),
        "ContractedUnitPrice": _decimal(each),
        "PricingCurrencyListUnitPrice": _decimal(each),
        "PricingCurrencyContractedUnitPrice": _decimal(each),
        "ConsumedQuantity": quantity,
        "PricingQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingUnit": unit,
        "ChargeDescription": spreadsheet_text(f"{meter} of {sku}"),
        "SkuMeter": meter,
        "SkuPriceDetails": json.dumps({"x_TokenType": charge.kind, "x_ServiceTier": row["service_tier"]}),
        "SkuPriceId": spreadsheet_text(f"{sku}/{row['service_tier']}/{charge.kind}"),
        "x_TokenType": charge.kind,
    }


def _common(row: Mapping[str, Any]) -> dict[str, Any]:
    at: datetime = row["occurred_at"].astimezone(UTC).replace(microsecond=0)
    month = at.replace(day=1, hour=0, minute=0, second=0)
    provider, component, currency = row["provider"], row["component"], row["currency"]
    found = {
        **dict.fromkeys(("BillingAccountId", "BillingAccountName", "InvoiceIssuerName", "ProviderName"), provider),
        **dict.fromkeys(("PublisherName", "ServiceName"), provider),
        **dict.fromkeys(("SubAccountId", "SubAccountName"), component),
        "BillingAccountType": "Provider Account",
        "BillingCurrency": currency,
        "BillingPeriodStart": _instant(month),
        "BillingPeriodEnd": _instant((month + timedelta(days=32)).replace(day=1)),
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _instant(at),
        "ChargePeriodEnd": _instant(at + timedelta(seconds=1)),
        "PricingCategory": "Standard",
        "PricingCurrency": currency,
        "ResourceId": f"{provider}/{row['model']}",
        "ResourceName": row["model"],
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SkuId": f"{provider}/{row['model']}",
        "SubAccountType": "Component",
        "Tags": json.dumps(row["tags"], ensure_ascii=False),
        "x_EventId": str(row["event_id"]),
        "x_PriceStatus": row["price_status"],
        "x_ServiceTier": row["service_tier"],
        "x_TokenSource": row["token_source"],
        "x_TaskType": row["task_type"],
        "x_ContextId": row["context_id"],
        "x_User": row["user"],
    }
    return found | {name: spreadsheet_text(found[name]) for name in (*_NAMED, "ProviderName") if name in found}


def _tokens(row: Mapping[str, Any]) -> Tokens:
    return Tokens(
        row["input_tokens"],
        row["output_tokens"],
        row["cache_read_input_tokens"],
        row["cache_creation_input_tokens"],
        row["reasoning_output_tokens"],
        row["input_audio_tokens"],
        row["output_audio_tokens"],
        row["cache_creation_1h_input_tokens"],
        row["input_image_tokens"],
        row["output_image_tokens"],
    )


def _picos(picos: int) -> str:
    return f"{Decimal(picos).scaleb(-12):f}"


def _decimal(text: str) -> str:
    return text if not text or "." in text else f"{text}.0"


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
