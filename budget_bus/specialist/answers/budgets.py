"""What is left of budgets, what they will come to, what is set aside, what they have alerted of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from budget_bus.policy.scope import parse_scope
from budget_bus.providers.names import canonical_provider
from budget_bus.specialist.answers.asking import Asked, Json, joined

_SHOWN: Final = 12
_NONE: Final = "There are no budgets. `budget set-limit` makes one."


async def left(asked: Asked) -> str:
    """What is left of each budget, and whether any is used up."""
    status = await asked.evidence.ask("get_budget_status")
    if not status["budgets"]:
        return _NONE
    found, note = chosen(asked, status["budgets"])
    over = [one for one in found if Decimal(one["available"]) <= 0 and not one["shadow"]]
    told = f"Used up: {joined([one['name'] for one in over])}." if over else "Within budget: nothing of it is used up."
    stale = "Usage is behind, so these numbers may be old. " if status["stale"] else ""
    return "\n".join([stale + note + told, *_some(asked, found, _standing)])


async def limits(asked: Asked) -> str:
    """The budgets in force."""
    page = await asked.evidence.ask("list_limits")
    if not page["items"]:
        return _NONE
    found, note = chosen(asked, page["items"])
    head = f"{note}{asked.evidence.count(found)} budget{'' if len(found) == 1 else 's'}:"
    return "\n".join([head, *_some(asked, found, _terms)])


async def forecast(asked: Asked) -> str:
    """What budgets come to at the end of their windows, and when they run out."""
    told = await asked.evidence.ask("forecast")
    if not told["budgets"]:
        return _NONE
    found, note = chosen(asked, told["budgets"])
    return "\n".join([*([note.strip()] if note else []), *_some(asked, found, _outlook)])


async def holds(asked: Asked) -> str:
    """What is set aside, by component, and of what nothing was heard."""
    lines = []
    for state, says in (
        ("open", "set aside for calls that run"),
        ("unconfirmed", "charged for calls of which nothing was heard"),
    ):
        page = await asked.evidence.ask("list_holds", state=state, component=[*asked.question.components], count=1000)
        lines += _held(asked, page, says)
    return "\n".join(lines)


async def alerts(asked: Asked) -> str:
    """The latest alerts, of a period if one is named."""
    page = await asked.evidence.ask("list_alerts", count=100)
    spans = asked.question.spans
    found = [one for one in page["items"] if not spans or _within(one["raised_at"], spans[0].start, spans[0].end)]
    if not found:
        return "No alert was raised" + (" in that time." if spans else ".")
    shown = found[: asked.question.top or 5]
    open_ones = [one for one in found if one["acknowledged_at"] is None]
    more = " or more" if page["next_cursor"] else ""
    count, noted = asked.evidence.count(found), asked.evidence.count(open_ones)
    head = f"{count}{more} alert{'' if len(found) == 1 else 's'}, not acknowledged of these {noted}; the latest:"
    return "\n".join([head, *(f"{asked.evidence.moment(one['raised_at'])}: {one['message']}" for one in shown)])


def chosen(asked: Asked, budgets: Sequence[Any]) -> tuple[list[Any], str]:
    """The budgets that the question is about, and a sentence if it is about none of them."""
    question = asked.question
    found = [one for one in budgets if not question.budgets or one["name"] in question.budgets]
    if question.period and not question.budgets:
        # "The daily budget" is the one of that name, if there is one.
        named = [one for one in found if one["name"] == question.period]
        found = named or [one for one in found if one["period"] == question.period]
    names = {
        "component": question.components,
        "model": question.models,
        "provider": question.providers,
        "user": question.users,
    }
    for field, wanted in names.items():
        if wanted:
            found = [one for one in found if _concerns(one["scope"], field, wanted)]
    if found:
        return found, ""
    return list(budgets), "No budget is just about that; these are all. "


def _concerns(scope: Json, field: str, wanted: Sequence[str]) -> bool:
    rule = parse_scope(scope, provider_name=canonical_provider).rules.get(field)
    return rule is None or any(rule.admits(name) for name in wanted)


def _some(asked: Asked, budgets: Sequence[Any], put: Any) -> list[str]:
    lines = [put(asked, one) for one in budgets[:_SHOWN]]
    rest = budgets[_SHOWN:]
    return [*lines, f"{asked.evidence.count(rest)} more: `budget limits list` has them."] if rest else lines


def unit_of(one: Json) -> str:
    """What a budget is counted in."""
    return str(one["currency"] if one["unit"] == "cost" else one["unit"])


def scope_of(one: Json) -> str:
    """Which calls a budget is about, in words."""
    parts = []
    for field, rule in one["scope"].items():
        if field == "tags":
            parts += [f"tag {tag} {_rule(value)}" for tag, value in rule.items()]
        else:
            parts.append(f"{field.replace('_', ' ')} {_rule(rule)}")
    return " and ".join(parts) or "all calls"


def _rule(rule: Any) -> str:
    if isinstance(rule, dict):
        return f"other than {joined(rule['not'], 'or')}"
    return rule if isinstance(rule, str) else joined(rule, "or")


def _standing(asked: Asked, one: Json) -> str:
    evidence, unit = asked.evidence, unit_of(one)
    available = Decimal(one["available"])
    limit = evidence.money(one["limit"], unit)
    taken = f"{evidence.number(one['spent'])} of {limit} spent, {evidence.number(one['held'])} held"
    if Decimal(one["unconfirmed"]):
        taken += f", {evidence.number(one['unconfirmed'])} unconfirmed"
    share = evidence.share(one["spent"], one["limit"])
    used = f" ({share})" if share else ""
    rest = (f"{evidence.money(available, unit)} left" if available >= 0
            else f"{evidence.money(abs(available), unit)} over")  # fmt: skip
    shadow = ", a shadow that refuses nothing" if one["shadow"] else ""
    return f"{one['name']} ({one['period']}, {one['policy']}{shadow}): {taken}{used}; {rest}{_until(asked, one)}."


def _until(asked: Asked, one: Json) -> str:
    return f" until {asked.evidence.moment(one['window_end'])}" if one["window_end"] else ""


def _terms(asked: Asked, one: Json) -> str:
    shadow = ", shadow" if one["shadow"] else ""
    limit = asked.evidence.money(one["limit"], unit_of(one))
    return f"{one['name']}: {limit} {one['period']}, {one['policy']}{shadow}, for {scope_of(one)}."


def _outlook(asked: Asked, one: Json) -> str:
    evidence, unit, outlook = asked.evidence, unit_of(one), one["forecast"]
    spent = f"{one['name']}: {evidence.number(one['spent'])} of {evidence.money(one['limit'], unit)} is spent"
    if Decimal(one["available"]) <= 0:
        return f"{spent}; it is used up{_until(asked, one)}."
    if outlook is None:
        return f"{spent}; too little of its window is over to say what it comes to."
    band = ""
    if outlook.get("low") is not None and outlook.get("high") is not None:
        band = f" (between {evidence.number(outlook['low'])} and {evidence.number(outlook['high'])})"
    out = (
        f"it runs out at {evidence.moment(one['runs_out_at'])}" if one["runs_out_at"] else "it does not run out before"
    )
    method = str(outlook.get("method") or "").replace("_", " ")
    comes = f"it comes to {evidence.money(outlook['expected'], unit)}{band}"
    return f"{spent}; if it goes on so ({method}), {comes}{_by(asked, one)}, and {out}."


def _by(asked: Asked, one: Json) -> str:
    return f" by {asked.evidence.moment(one['window_end'])}" if one["window_end"] else ""


def _held(asked: Asked, page: Json, says: str) -> list[str]:
    evidence, found = asked.evidence, page["items"]
    if not found:
        return [f"Nothing is {says}."]
    by_whom: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for hold in found:
        by_whom[hold["component"], hold["currency"]].append(hold)
    more = " or more" if page["next_cursor"] else ""
    lines = [f"{evidence.count(found)}{more} hold{'' if len(found) == 1 else 's'}, {says}:"]
    for (component, currency), ones in sorted(by_whom.items()):
        amounts = [hold["amount"] for hold in ones if hold["amount"] is not None]
        until = max(hold["expires_at"] for hold in ones)
        told = evidence.money(evidence.total(amounts), currency) if amounts else "without a price"
        lines.append(f"{component}: {told} in {evidence.count(ones)}, the last until {evidence.moment(until)}.")
    return lines


def _within(at: str, start: datetime, end: datetime) -> bool:
    return start <= datetime.fromisoformat(at) < end
