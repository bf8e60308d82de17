"""`budget simulate`: what the past would have come to under other limits, prices, models."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.limit_words import number
from budget_bus.cli.limits import LimitPeriod, Names, PolicyOption
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json

_TIMEOUT_S = 3600.0
_TOTALS = {
    "": "what",
    "Requests": "requests",
    "Input tokens": "input_tokens",
    "Output tokens": "output_tokens",
    "Cost": "cost",
    "Currency": "currency",
    "Unpriced": "unpriced_requests",
}
_BUDGETS = {
    "Budget": "name",
    "Refused": "refused",
    "Refused cost": "refused_cost",
    "First refused": "first_refused_at",
    "Peak": "peak",
    "Of": "peak_limit",
    "Peak %": "peak_percent",
    "Used up": "used_up",
    "First used up": "first_used_up",
}
_REFUSALS = {"At": "at", "Component": "component", "Model": "model", "Budget": "budget", "Why": "reason"}
_SHOWN = 10

FromOption = Annotated[str, typer.Option("--from", metavar="INSTANT", help="From then on, e.g. 2026-11-01.")]
ToOption = Annotated[str, typer.Option("--to", metavar="INSTANT", help="Until before then.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", metavar="WHICH=AMOUNT", help="A budget by name or id, or a new one by period: daily=10. Repeatable."
    ),
]
PercentOption = Annotated[
    list[str] | None, typer.Option("--set-percent", metavar="WHICH=PERCENT", help="Of an allocation: codex=30.")
]
RemoveOption = Annotated[list[str] | None, typer.Option("--without", metavar="WHICH", help="Leave this budget out.")]
PriceOption = Annotated[
    list[str] | None,
    typer.Option("--price", metavar="MODEL=PRICES", help="Per million tokens: openai/gpt-4o:input=2.5,output=10."),
]
SwapOption = Annotated[
    list[str] | None, typer.Option("--swap", metavar="MODEL=MODEL", help="openai/gpt-4o=openai/gpt-4o-mini.")
]


def simulate(
    *,
    start: FromOption,
    end: ToOption,
    limit: LimitOption = None,
    set_percent: PercentOption = None,
    without: RemoveOption = None,
    price: PriceOption = None,
    swap: SwapOption = None,
    policy: PolicyOption = None,
    component: Annotated[Names, typer.Option(help="New limits and swaps are of this component; repeatable.")] = None,
    if_all_asked: Annotated[
        bool, typer.Option("--if-all-asked", help="Decide usage without a check as if it had asked.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Replay a range of the past against what is proposed; with no proposal, as it was.

    Example: budget simulate --from 2026-11-01 --to 2026-12-01 --limit daily=10 --policy HARD_LIMIT
    """
    scope: dict[str, Any] = {"component": component} if component else {}
    body: dict[str, Any] = {"start": _instant(start, "--from"), "end": _instant(end, "--to")}
    body |= _limits(limit or [], set_percent or [], without or [], scope, policy.value if policy else None)
    body["prices"] = [_price(text) for text in price or []]
    body["swaps"] = [_swap(text, scope) for text in swap or []]
    body["if_all_asked"] = if_all_asked
    print(f"replaying {body['start']} to {body['end']} ...", file=sys.stderr)
    _, answer = ask("POST", "/api/simulate", body=body, timeout_s=_TIMEOUT_S)
    if form is Format.JSON:
        show_json(answer)
        return
    show(_totals(answer), _TOTALS, form)
    if form is Format.CSV:
        return
    print(_verdict(answer["checks"]))
    if answer["budgets"]:
        show([_budget(one) for one in answer["budgets"]], _BUDGETS, form)
    if answer["refusals"]:
        print(f"{answer['refusal_count']} calls would have been refused; the first:")
        show(answer["refusals"][:_SHOWN], _REFUSALS, form)
    for line in answer["differences"][:_SHOWN]:
        print(f"another decision: {printable(line)}")
    for warning in answer["warnings"]:
        print(f"note: {printable(warning)}", file=sys.stderr)


def _limits(
    limit: list[str], percent: list[str], without: list[str], scope: dict[str, Any], policy: str | None
) -> dict[str, Any]:
    known = items("/api/limits") if limit or percent or without else []
    new, changes = [], []
    for text in limit:
        which, amount = _pair(text, "--limit", "daily=10")
        budget_id = _known(known, which)
        said: dict[str, Any] = {"limit": number(amount, "--limit")} | ({"policy": policy} if policy else {})
        if budget_id is not None:
            changes.append({"budget_id": budget_id, **said})
        elif which in [period.value for period in LimitPeriod]:
            new.append({"period": which, "scope": scope, **said})
        else:
            raise typer.BadParameter(f"{which!r} is neither a budget nor a period", param_hint="--limit")
    for text in percent:
        which, share = _pair(text, "--set-percent", "codex=30")
        changes.append({"budget_id": _named(known, which, "--set-percent"), "percent": number(share, "--set-percent")})
    return {"limits": new, "changes": changes, "removed": [_named(known, which, "--without") for which in without]}


def _known(known: list[dict[str, Any]], which: str) -> str | None:
    ids = [str(one["budget_id"]) for one in known if which in (one["budget_id"], one["name"])]
    if len(ids) > 1:
        raise typer.BadParameter(f"{len(ids)} budgets are called {which!r}; name one by its id: {', '.join(ids)}")
    return ids[0] if ids else None


def _named(known: list[dict[str, Any]], which: str, hint: str) -> str:
    found = _known(known, which)
    if found is None:
        raise typer.BadParameter(f"no budget is called {which!r}; `budget limits list` shows them", param_hint=hint)
    return found


def _pair(text: str, hint: str, example: str) -> tuple[str, str]:
    left, sign, right = text.rpartition("=")
    if not sign or not left or not right:
        raise typer.BadParameter(f"{text!r} is not understood; write for example {example}", param_hint=hint)
    return left, right


def _model(text: str, hint: str) -> tuple[str, str]:
    provider, sign, model = text.partition("/")
    if not sign or not provider or not model:
        raise typer.BadParameter(f"{text!r} names no model; write for example openai/gpt-4o", param_hint=hint)
    return provider, model


def _price(text: str) -> dict[str, Any]:
    named, sign, rates = text.rpartition(":")
    if not sign:
        raise typer.BadParameter(
            f"{text!r} is not understood; write openai/gpt-4o:input=2.5,output=10", param_hint="--price"
        )
    provider, model = _model(named, "--price")
    pairs = [_pair(rate, "--price", "input=2.5") for rate in rates.split(",")]
    return {"provider": provider, "model": model} | {name: number(amount, "--price") for name, amount in pairs}


def _swap(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    old, new = _pair(text, "--swap", "openai/gpt-4o=openai/gpt-4o-mini")
    from_provider, from_model = _model(old, "--swap")
    provider, model = _model(new, "--swap")
    calls = {**scope, "provider": from_provider, "model": from_model}
    return {"scope": calls, "provider": provider, "model": model}


def _instant(text: str, hint: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no instant; write 2026-01-31 or 2026-01-31T12:00:00Z"
        raise typer.BadParameter(message, param_hint=hint) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _totals(answer: dict[str, Any]) -> list[dict[str, Any]]:
    total, currency = answer["total"], {"currency": answer["currency"]}
    rows = [{"what": name, **total[name], **currency} for name in ("actual", "simulated", "refused")]
    if answer["assumed"]["requests"]:
        rows.append({"what": "of simulated: assumed", **answer["assumed"], **currency})
    return [*rows, {"what": "saved", "cost": total["saved"], **currency}]


def _verdict(checks: dict[str, Any]) -> str:
    said = f"checks: {checks['identical']} of {checks['decided']} decisions are identical to production's"
    more = [
        f"{checks[name]} {words}"
        for name, words in (
            ("refused", "were allowed and would be refused"),
            ("allowed", "were refused and would be allowed"),
            ("not_replayable", "are not replayable"),
        )
        if checks[name]
    ]
    return "; ".join([said, *more])


def _budget(one: dict[str, Any]) -> dict[str, Any]:
    used_up = one["exhausted"]
    first = min((window["at"] for window in used_up), default=None)
    return {**one, "used_up": len(used_up) or None, "first_used_up": first}
