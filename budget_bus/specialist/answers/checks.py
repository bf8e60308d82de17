"""What was refused and why, and what could still be run."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from budget_bus.policy.scope import Call, parse_scope
from budget_bus.policy.windows import Period
from budget_bus.providers.names import canonical_provider, tier_of
from budget_bus.specialist.answers.asking import Asked, Json, joined
from budget_bus.specialist.answers.budgets import unit_of

_SHOWN: Final = 3
_MANY: Final = 100


async def denials(asked: Asked) -> str:
    """The latest denials, each with what bound and what would have fitted."""
    question, evidence = asked.question, asked.evidence
    filters: dict[str, Any] = {"component": [*question.components], "model": [*question.models]}
    if question.spans:
        filters |= {"since": question.spans[0].start.isoformat(), "until": question.spans[0].end.isoformat()}
    page = await evidence.ask("list_decisions", action="deny", count=_MANY, **filters)
    found, whose = page["items"], joined(question.components, "or") or "anybody"
    if not found:
        return f"No check of {whose} was denied{' in that time' if question.spans else ''}, as far as the log goes."
    more = " or more" if page["next_cursor"] else ""
    many = "check" if len(found) == 1 else "checks"
    head = f"Of {whose} {evidence.count(found)}{more} {many} denied; the latest:"
    return "\n".join([head, *(_denial(asked, one) for one in found[: question.top or _SHOWN])])


async def decision(asked: Asked) -> str:
    """One decision by its request_id."""
    one = await asked.evidence.ask("explain_decision", request_id=asked.question.request_id)
    if one["action"] == "deny":
        return _denial(asked, one)
    at, cost = asked.evidence.moment(one["decided_at"]), _cost(asked, one)
    warnings = "".join(f" Warning: {warning}." for warning in one["warnings"])
    return f"{at}: allowed ({one['action']}), {cost}.{warnings}"


def _denial(asked: Asked, one: Json) -> str:
    evidence = asked.evidence
    who = f" {one['component']} with {one['provider']}/{one['model']}" if one.get("component") else ""
    said = [
        f"{evidence.moment(one['decided_at'])}{who}: denied, {one['reason']}.",
        f"It would have been {_cost(asked, one)}.",
    ]
    for budget in one["budgets"]:
        if budget["binding"]:
            unit = unit_of(budget)
            limit, available = evidence.money(budget["limit"], unit), evidence.money(budget["available"], unit)
            spent, held = evidence.number(budget["spent"]), evidence.number(budget["held"])
            said.append(
                f"What binds is {budget['name']}: {spent} spent and {held} held of {limit}, {available} available."
            )
    if one["resets_at"]:
        said.append(f"It frees up at {evidence.moment(one['resets_at'])}.")
    instead = one["suggestions"]
    if instead["max_output_tokens"]:
        said.append(f"It would have fitted with max_output_tokens {evidence.number(instead['max_output_tokens'])}.")
    if instead["alternatives"]:
        names = [
            f"{alternative['provider']}/{alternative['model']}" for alternative in instead["alternatives"][:_SHOWN]
        ]
        said.append(f"{joined(names, 'or')} would have fitted.")
    return " ".join(said)


def _cost(asked: Asked, one: Json) -> str:
    tokens = f"at most {asked.evidence.number(one['estimated_tokens'])} tokens"
    if one["estimated_cost"] is None:
        return f"{tokens} at an unknown price"
    return f"{tokens} and {asked.evidence.money(one['estimated_cost'], one['currency'])}"


@dataclass(frozen=True, slots=True)
class _Each:
    """What one call takes: cost in the currency of prices, tokens; and how we know, in words."""

    provider: str
    model: str
    cost: Decimal
    tokens: Decimal
    source: str


async def afford(asked: Asked) -> str:
    """
    Whether so many calls fit what is available of every budget that is about them. The cost of one is that of the
    tokens that are stated, else what such calls have cost on average. Nothing is asked of the decider, nothing is held.
    """
    each = await _stated(asked) if asked.question.tokens else await _average(asked)
    if isinstance(each, str):
        return each
    evidence, calls = asked.evidence, asked.question.calls
    component = asked.question.components[0] if asked.question.components else None
    page = await evidence.ask("list_limits")
    found = [one for one in page["items"] if _about(one, component, each)]
    model = f"{each.provider}/{each.model}"
    rooms = [_room(asked, one, each, calls) for one in found]
    hard = [room for room in rooms if room.hard]
    fits = min((room.calls for room in hard if room.calls is not None), default=None)
    head = _verdict(asked, fits, model, limited=bool(rooms))
    return "\n".join([f"{head} {each.source}", *(room.line for room in rooms)])


def _verdict(asked: Asked, fits: int | None, model: str, *, limited: bool) -> str:
    evidence, calls = asked.evidence, asked.question.calls
    of = f"of {model}{f' by {asked.question.components[0]}' if asked.question.components else ''}"
    if fits is None:
        why = "only budgets that refuse nothing are about them" if limited else "no budget is about them"
        return f"Yes: no hard limit is in the way of calls {of}; {why}."
    room = evidence.number(fits)
    if calls is None:
        return f"{room} call{'' if fits == 1 else 's'} {of} fit{'s' if fits == 1 else ''} now."
    if calls <= fits:
        return f"Yes: {evidence.asked(calls)} calls {of} fit; {room} would."
    return f"No: {evidence.asked(calls)} calls {of} do not fit; {room} would."


async def _average(asked: Asked) -> _Each | str:
    """What such calls cost on average since the beginning of last month: the component's own, else everybody's."""
    start, end = asked.now.window(Period.MONTHLY, ago=1)[0], asked.now.at
    report = await asked.usage(start, end, group_by=["provider", "model"])
    rows = [row for row in report["groups"] if row["requests"] > row["unpriced_requests"]]
    whose = asked.whose()
    if not rows and asked.question.components:
        report = await asked.usage(start, end, group_by=["provider", "model"], component=[])
        rows = [row for row in report["groups"] if row["requests"] > row["unpriced_requests"]]
        whose = "everybody"
    if not rows:
        wanted = joined([*asked.question.models, *(one.word for one in asked.question.unknown)], "or") or "such"
        return (f"From {asked.bounds(report)} there was no call of {wanted} with a price to go by. "
                "Say what one takes, for example: with input tokens and output tokens of each call.")  # fmt: skip
    row = max(rows, key=lambda one: (one["requests"], str(one["key"])))
    evidence, key, currency = asked.evidence, row["key"], report["currency"]
    priced = (
        evidence.difference(str(row["requests"]), str(row["unpriced_requests"]))
        if row["unpriced_requests"]
        else Decimal(row["requests"])
    )
    cost, tokens = evidence.quotient(row["cost"], priced), evidence.quotient(row["total_tokens"], row["requests"])
    paid = f"{evidence.money(row['cost'], currency)} for {asked.calls(int(priced))} of {key['provider']}/{key['model']}"
    source = (
        f"One costs {evidence.money(cost, currency)} on average: from {asked.bounds(report)} {whose or 'everybody'} "
        f"paid {paid}."
    )
    return _Each(key["provider"], key["model"], cost, tokens, source)


async def _stated(asked: Asked) -> _Each | str:
    """What the stated tokens cost; a bare total is taken as output, the dearer class."""
    evidence, question = asked.evidence, asked.question
    wanted = [*question.models, *(one.word for one in question.unknown)]
    if not wanted:
        return "Of which model? Ask, for example: can ergon run more opus calls?"
    told = await evidence.ask("list_prices", model=wanted[0])
    prices = [one for one in told["items"] if not question.providers or one["provider"] in question.providers]
    if not prices:
        return f"No price is known for {wanted[0]}, so I cannot say."
    used = await _used_provider(asked, wanted[0])
    one, tokens = next((one for one in prices if one["provider"] == used), prices[0]), question.tokens
    counts = {"input": tokens.get("input", 0), "output": tokens.get("output", tokens.get("total", 0))}
    parts, costs = [], []
    for kind, count in counts.items():
        if count:
            evidence.asked(count)
            costs.append(evidence.priced(count, one[kind]))
            rate = f"{evidence.money(one[kind], one['currency'])} for {one['per']} of {kind}"
            parts.append(f"{evidence.number(count)} tokens at {rate}")
    if not costs:
        return "A call of no tokens costs nothing; say how many it takes."
    cost, total = evidence.total(costs), evidence.total([count for count in counts.values() if count])
    source = f"One costs {evidence.money(cost, one['currency'])}: {joined(parts)}."
    return _Each(one["provider"], one["model"], cost, total, source)


async def _used_provider(asked: Asked, model: str) -> str | None:
    """From whom that model was used most lately: several may offer it."""
    start, end = asked.now.window(Period.MONTHLY, ago=1)[0], asked.now.at
    report = await asked.usage(start, end, group_by=["provider"], model=[model], component=[])
    rows = report["groups"]
    provider: str | None = max(rows, key=lambda one: one["requests"])["key"]["provider"] if rows else None
    return provider


@dataclass(frozen=True, slots=True)
class _Room:
    """How many calls fit one budget (None: as many as you like), and a line that shows it."""

    hard: bool
    calls: int | None
    line: str


def _about(one: Json, component: str | None, each: _Each) -> bool:
    if one["shadow"] or one["period"] == "per_context":
        return False
    provider = canonical_provider(each.provider)
    call = Call(component or "", provider, each.model, tier_of(provider, each.model))
    return parse_scope(one["scope"], provider_name=canonical_provider).admits(call)


def _room(asked: Asked, one: Json, each: _Each, calls: int | None) -> _Room:
    evidence, unit, available = asked.evidence, unit_of(one), Decimal(one["available"])
    takes = {"cost": each.cost, "tokens": each.tokens, "requests": Decimal(1)}[one["unit"]]
    rate = one.get("exchange_rate")
    if one["unit"] == "cost" and rate:
        takes = evidence.product(takes, rate["rate"])
    if one["unit"] == "requests":
        evidence.known.numbers.add(takes)
    hard = one["policy"] == "HARD_LIMIT"
    left = max(available, Decimal(0))
    fits = int(evidence.whole(_left(asked, left), takes)) if takes else None
    line = f"{one['name']} ({one['policy']}): {evidence.money(_left(asked, left), unit)} available"
    if fits is not None:
        a_call = "" if one["unit"] == "requests" else f" at {evidence.money(takes, unit)} a call"
        line += f", enough for {evidence.number(fits)}{a_call}"
    if calls is not None and takes and one["unit"] != "requests":
        evidence.asked(calls)
        sum_of_all = evidence.money(evidence.product(calls, takes), unit)
        line += f"; {evidence.number(calls)} * {evidence.number(takes)} = {sum_of_all}"
    return _Room(hard, fits, line + ".")


def _left(asked: Asked, left: Decimal) -> Decimal:
    # Of a budget that is overdrawn nothing is left; zero is then no figure of a result.
    if not left:
        asked.evidence.known.numbers.add(left)
    return left
