"""Who spent what, and when."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from budget_bus.policy.windows import Period
from budget_bus.specialist.answers.asking import Asked, Json, capital, joined
from budget_bus.specialist.periods import Span

_SHOWN: Final = 5
_MOST: Final = 50
_VERBS: Final = {"cost": "spent", "requests": "made", "total_tokens": "used"}
_NAMES: Final = ("components", "models", "providers", "users", "task_types")


async def spend(asked: Asked) -> str:
    """How much it was in a period; by name if there are several."""
    several = next((name for name in _NAMES if len(getattr(asked.question, name)) > 1), None)
    dimension = several.removesuffix("s") if several else None
    report = await asked.usage(asked.span.start, asked.span.end, group_by=[dimension] if dimension else [])
    whose, when = asked.whose(), asked.when(asked.span, report)
    if not report["totals"]["requests"]:
        return f"{capital(when)}: {asked.no_calls()}."
    said = asked.spent(report["totals"], report["currency"], asked.question.measure)
    totals = f"{capital(when)} {whose or 'all together'} {said}{_average(asked, report)}."
    lines = [
        f"{_name(group, dimension)}: {asked.sums(group, report['currency'])}." for group in _ranked(report, "cost")
    ]
    return "\n".join([totals + asked.unpriced(report["totals"]), *(lines[:_MOST] if dimension else ())])


def _average(asked: Asked, report: Json) -> str:
    totals = report["totals"]
    if not asked.question.average or totals["unpriced_requests"]:
        return ""
    each = asked.evidence.quotient(totals["cost"], totals["requests"])
    return f", on average {asked.evidence.money(each, report['currency'])} a call"


async def top(asked: Asked) -> str:
    """Who spent most or least, in any dimension and measure."""
    question, evidence = asked.question, asked.evidence
    dimension, measure = question.dimension or "component", question.measure or "cost"
    report = await asked.usage(asked.span.start, asked.span.end, group_by=[dimension])
    when, rows = capital(asked.when(asked.span, report)), _ranked(report, measure, least=question.least)
    if not rows:
        return f"{when}: {asked.no_calls()}."
    total, unit = report["totals"][measure], _unit(report, measure)
    first = [row for row in rows if Decimal(row[measure]) == Decimal(rows[0][measure])]
    names = [_name(row, dimension) for row in first[:_SHOWN]]
    share = evidence.share(rows[0][measure], total)
    each = " each" if len(first) > 1 else ""
    word = "the least" if question.least else "the most"
    amount = evidence.money(rows[0][measure], unit)
    of_all = f", {share} of {evidence.money(total, unit)}" if share else ""
    whose = f" of {asked.whose()}" if asked.whose() else ""
    head = f"{when}{whose}, {joined(names)} {_VERBS[measure]} {word}: {amount}{each}{of_all}."
    lines = [head + asked.unpriced(report["totals"])]
    shown = rows[: min(question.top or _SHOWN, _MOST)]
    if len(rows) > 1:
        lines += [f"{_name(row, dimension)}: {asked.sums(row, report['currency'])}." for row in shown]
    rest = rows[len(shown) :]
    return "\n".join(lines + ([f"{evidence.count(rest)} more spent something as well."] if rest else []))


async def compare(asked: Asked) -> str:
    """One period with another, and with the like part of it while it is not over."""
    evidence, now = asked.evidence, asked.now.at
    first, second = _two(asked)
    one = await asked.usage(first.start, first.end)
    other = await asked.usage(second.start, second.end)
    currency, whose = one["currency"], asked.whose() or "all together"
    lines = [
        f"{capital(whose)}: {asked.when(first, one)} {asked.sums(one['totals'], currency)}; "
        f"{asked.when(second, other)} {asked.sums(other['totals'], currency)}.",
        _differ(asked, one, other),
    ]
    if first.start <= now < first.end and second.end <= first.start:
        until = min(second.start + (now - first.start), second.end)
        if until > second.start:
            part = await asked.usage(second.start, until)
            lines.append(f"By the same time of the earlier period ({evidence.moment(part['window_end'])}) it was "
                         f"{evidence.money(part['totals']['cost'], currency)}.")  # fmt: skip
    return "\n".join(lines)


def _two(asked: Asked) -> tuple[Span, Span]:
    spans = asked.question.spans
    if len(spans) > 1:
        return spans[0], spans[1]
    span = asked.span
    label, start, end = span.before or (
        "in the same time before that",
        span.start - (span.end - span.start),
        span.start,
    )
    return span, Span(label, start, end)


def _differ(asked: Asked, one: Json, other: Json) -> str:
    evidence, currency = asked.evidence, one["currency"]
    a, b = Decimal(one["totals"]["cost"]), Decimal(other["totals"]["cost"])
    if a == b:
        return "That is the same cost."
    gap = evidence.money(evidence.difference(a, b), currency)
    share = evidence.share(a, b)
    return f"The former is {gap} {'more' if a > b else 'less'}{f' ({share} of the latter)' if share else ''}."


async def unpriced(asked: Asked) -> str:
    """Which models have no price."""
    span = asked.question.spans[0] if asked.question.spans else None
    start, end = (span.start, span.end) if span else asked.now.window(Period.MONTHLY)
    report = await asked.usage(start, end, group_by=["provider", "model"])
    found = [group for group in report["groups"] if group["unpriced_requests"]]
    when = f"From {asked.bounds(report)}"
    if not found:
        return f"{when} every call had a price."
    lines = [f"{when} these had no price, and are in no cost:"]
    for group in sorted(found, key=lambda one: -one["unpriced_requests"])[:_MOST]:
        key = group["key"]
        lines.append(f"{key['provider']}/{key['model']}: {asked.calls(group['unpriced_requests'])}.")
    return "\n".join([*lines, "`budget prices set` gives a model a price; what was recorded is then priced as well."])


def _ranked(report: Json, measure: str, *, least: bool = False) -> list[Any]:
    rows = [row for row in report["groups"] if row["requests"]]
    return sorted(rows, key=lambda row: (Decimal(row[measure]) * (1 if least else -1), str(row["key"])))


def _unit(report: Json, measure: str) -> str:
    return str(report["currency"]) if measure == "cost" else {"requests": "calls", "total_tokens": "tokens"}[measure]


def _name(group: Json, dimension: str | None) -> str:
    value = group["key"].get(dimension) if dimension else None
    return str(value) if value is not None else f"(no {(dimension or 'name').replace('_', ' ')})"
