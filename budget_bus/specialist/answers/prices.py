"""What models cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from budget_bus.policy.windows import Period
from budget_bus.specialist.answers.asking import Asked, Json, joined

_SHOWN: Final = 8


async def price(asked: Asked) -> str:
    """The price of a model, and of a number of tokens if one is given."""
    found = await _listed(asked)
    wanted = _wanted(asked)
    if not wanted:
        return "Which model? Ask, for example: what is the price of opus?"
    if not found:
        return f"No price is known for {joined(wanted, 'or')}. `budget prices set` sets one."
    lines = [_line(asked, one) for one in found[:_SHOWN]]
    rest = found[_SHOWN:]
    return "\n".join(lines + ([f"{asked.evidence.count(rest)} more have such a name."] if rest else []))


async def cheapest(asked: Asked) -> str:
    """Of the models that are named, or else of those that were used lately, those that cost least."""
    if len(_wanted(asked)) > 1:
        found = sorted(
            await _listed(asked), key=lambda one: (Decimal(one["input"]) + Decimal(one["output"]), one["model"])
        )
        if found:
            return "\n".join(["Cheapest first:", *(_line(asked, one) for one in found[:_SHOWN])])
    start, end = (asked.span.start, asked.span.end) if asked.question.spans else _lately(asked)
    report = await asked.usage(start, end, group_by=["provider", "model"])
    rows = [row for row in report["groups"] if row["total_tokens"] and not row["unpriced_requests"]]
    if not rows:
        return f"From {asked.bounds(report)} no model with a price was used{_by(asked)}, so I cannot compare."
    ranked = sorted(((_per_1k(asked, row), row) for row in rows), key=lambda one: (one[0], str(one[1]["key"])))
    head = f"By what it really cost for each token, from {asked.bounds(report)}{_by(asked)}, cheapest first:"
    return "\n".join(
        [head, *(_cost_line(asked, per_token, row, report["currency"]) for per_token, row in ranked[:_SHOWN])]
    )


def _by(asked: Asked) -> str:
    return f" by {asked.whose()}" if asked.whose() else ""


def _lately(asked: Asked) -> Any:
    """This month and the one before."""
    return asked.now.window(Period.MONTHLY, ago=1)[0], asked.now.at


def _wanted(asked: Asked) -> list[str]:
    return [*asked.question.models, *(one.word for one in asked.question.unknown)]


async def _listed(asked: Asked) -> list[Any]:
    found: dict[tuple[str, str], Any] = {}
    for name in _wanted(asked):
        told = await asked.evidence.ask("list_prices", model=name)
        found |= {
            (one["provider"], one["model"]): one
            for one in told["items"]
            if not asked.question.providers or one["provider"] in asked.question.providers
        }
    return list(found.values())


def _per_1k(asked: Asked, row: Json) -> Decimal:
    return asked.evidence.quotient(row["cost"], row["total_tokens"])


def _cost_line(asked: Asked, per_token: Decimal, row: Json, currency: str) -> str:
    evidence, key = asked.evidence, row["key"]
    basis = f"{evidence.money(row['cost'], currency)} for {evidence.number(row['total_tokens'])} tokens"
    return f"{key['provider']}/{key['model']}: {evidence.money(per_token, currency)} a token ({basis})."


def _line(asked: Asked, one: Json) -> str:
    evidence, currency = asked.evidence, one["currency"]
    rates = [evidence.money(one[kind], currency) for kind in ("input", "output")]
    name, per = f"{one['provider']}/{one['model']}", one["per"]
    said = f"{name}: {rates[0]} for {per} tokens of input, {rates[1]} for {per} of output"
    if one.get("cache_read") is not None:
        said += f", {evidence.money(one['cache_read'], currency)} for {one['per']} read from a cache"
    if one.get("tiers"):
        said += "; more for long prompts"
    tokens = asked.question.tokens
    parts = [(tokens[kind], kind) for kind in ("input", "output") if kind in tokens]
    for count, kind in parts:
        cost = evidence.priced(Decimal(_asked(asked, count)), one[kind])
        said += f"; {evidence.number(count)} tokens of {kind} cost {evidence.money(cost, currency)}"
    return said + "."


def _asked(asked: Asked, count: int) -> int:
    asked.evidence.asked(count)
    return count
