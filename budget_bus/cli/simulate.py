"""`budget simulate`: what the past would have come to under other limits, prices, models."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
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

FromOption = Annotated[str | None, typer.Option("--from", metavar="INSTANT", help="From then on, e.g. 2026-11-01.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="INSTANT", help="Until before then.")]
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
    typer.Option(
        "--price",
        metavar="MODEL=PRICES",
        help="Per million tokens: openai/gpt-4o:input=2.5,output=10; also service_tier=batch.",
    ),
]
SwapOption = Annotated[
    list[str] | None, typer.Option("--swap", metavar="MODEL=MODEL", help="openai/gpt-4o=openai/gpt-4o-mini.")
]
TierOption = Annotated[
    list[str] | None,
    typer.Option(
        "--service-tier", metavar="[MODEL=]TIER", help="Calls in another tier: batch, or openai/gpt-4o=batch."
    ),
]
CachingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--caching",
        metavar="[MODEL=]READ[,WRITE]",
        help="Percent of the uncached input that a cache is read for, and written with: 60, or openai/gpt-4o=60,5.",
    ),
]
BodyOption = Annotated[
    Path | None,
    typer.Option(
        "--body",
        metavar="FILE",
        help="A whole proposal as POST /api/simulate takes it, also with scopes, parents, price tiers; - is standard "
        "input. Only --from and --to may stand beside it; they count more.",
    ),
]


def simulate(
    *,
    start: FromOption = None,
    end: ToOption = None,
    limit: LimitOption = None,
    set_percent: PercentOption = None,
    without: RemoveOption = None,
    price: PriceOption = None,
    swap: SwapOption = None,
    service_tier: TierOption = None,
    caching: CachingOption = None,
    policy: PolicyOption = None,
    component: Annotated[
        Names, typer.Option(help="New limits, swaps, tiers and caching are of this component; repeatable.")
    ] = None,
    if_all_asked: Annotated[
        bool, typer.Option("--if-all-asked", help="Decide usage without a check as if it had asked.")
    ] = False,
    file: BodyOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Replay a range of the past against what is proposed; with no proposal, as it was.

    Example: budget simulate --from 2026-11-01 --to 2026-12-01 --limit daily=10 --policy HARD_LIMIT

    Example: budget simulate --from 2026-11-01 --to 2026-12-01 --caching openai/gpt-4o=60,5 --component codex

    Example: budget optimize --format json | jq .suggestions[0].simulate | budget simulate --body -
    """
    scope: dict[str, Any] = {"component": component} if component else {}
    body = _limits(limit or [], set_percent or [], without or [], scope, policy.value if policy else None)
    body["prices"] = [_price(text) for text in price or []]
    body["swaps"] = [_swap(text, scope) for text in swap or []]
    body["tiers"] = [_tier(text, scope) for text in service_tier or []]
    body["caching"] = [_caching(text, scope) for text in caching or []]
    body["if_all_asked"] = if_all_asked
    if file is not None:
        if scope or policy or any(body.values()):
            raise typer.BadParameter(
                "has the whole proposal; only --from and --to may stand beside it", param_hint="--body"
            )
        body = _read(file)
    proposed = any(value for name, value in body.items() if name not in ("start", "end"))
    body |= _range(start, end, body)
    print(f"replaying {body['start']} to {body['end']} ...", file=sys.stderr)
    _, answer = ask("POST", "/api/simulate", body=body, timeout_s=_TIMEOUT_S)
    _print(answer, form, proposed=proposed)


def _print(answer: dict[str, Any], form: Format, *, proposed: bool) -> None:
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
    if not proposed:
        for line in answer["differences"][:_SHOWN]:
            print(f"another decision: {printable(line)}")
    for warning in answer["warnings"]:
        print(f"note: {printable(warning)}", file=sys.stderr)


def _range(start: str | None, end: str | None, body: dict[str, Any]) -> dict[str, str]:
    given = {}
    for name, text, hint in (("start", start, "--from"), ("end", end, "--to")):
        if text is not None:
            given[name] = _instant(text, hint)
        elif name not in body:
            raise typer.BadParameter("is required", param_hint=hint)
    return given


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
    return {"provider": provider, "model": model} | {
        name: amount if name == "service_tier" else number(amount, "--price") for name, amount in pairs
    }


def _swap(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    old, new = _pair(text, "--swap", "openai/gpt-4o=openai/gpt-4o-mini")
    from_provider, from_model = _model(old, "--swap")
    provider, model = _model(new, "--swap")
    calls = {**scope, "provider": from_provider, "model": from_model}
    return {"scope": calls, "provider": provider, "model": model}


def _tier(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    calls, tier = _calls(text, scope, "--service-tier")
    return {"scope": calls, "service_tier": tier}


def _caching(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    calls, percents = _calls(text, scope, "--caching")
    read, _, write = percents.partition(",")
    if not read.isdecimal() or not (write or "0").isdecimal():
        raise typer.BadParameter(f"{text!r} is not understood; write 60, or openai/gpt-4o=60,5", param_hint="--caching")
    return {"scope": calls, "read_percent": int(read), "write_percent": int(write or 0)}


def _calls(text: str, scope: dict[str, Any], hint: str) -> tuple[dict[str, Any], str]:
    """Which calls `[MODEL=]REST` is about, and the rest."""
    named, sign, rest = text.rpartition("=")
    if not sign:
        return scope, rest
    provider, model = _model(named, hint)
    return {**scope, "provider": provider, "model": model}, rest


def _read(file: Path) -> dict[str, Any]:
    try:
        body = json.loads(sys.stdin.buffer.read() if file == Path("-") else file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}", param_hint="--body") from None
    except ValueError as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}", param_hint="--body") from None
    if not isinstance(body, dict):
        raise typer.BadParameter(f"{file} is no JSON object", param_hint="--body")
    return body


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
