"""Answers in plain sentences; every number in them stands in the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]


def decision(answer: Json) -> str:
    """Whether a call may be made, why, and what would fit instead."""
    call = f"at most {answer['estimated_tokens']} tokens and {cost(answer)}"
    says = {
        "allow": f"Allowed: {call}.",
        "warn": f"Allowed with a warning: {call}.",
        "degrade": f"Allowed, but the budget asks for less: {call}.",
        "deny": f"Denied: {answer.get('reason') or 'no reason was given'}. It would have been {call}.",
    }
    return " ".join([says[answer["action"]], *_about_budgets(answer), *_instead(answer), *_held(answer)])


def cost(answer: Json) -> str:
    """The estimated cost, or that it is unknown."""
    if answer.get("estimated_cost") is None:
        return "an unknown cost, for the model has no price"
    return f"{answer['estimated_cost']} {answer['currency']}"


def budget(one: Json) -> str:
    """One budget and its balance."""
    unit = one["currency"] if one["unit"] == "cost" else one["unit"]
    until = f", until {one['window_end']}" if one.get("window_end") else ""
    return (
        f"{one['name']} ({one['period']}, {one['policy']}): {one['spent']} spent, {one['held']} held, "
        f"{one['unconfirmed']} unconfirmed of {one['limit']} {unit}; {one['available']} available{until}."
    )


def budgets(found: list[Json]) -> str:
    """All of them, or that there are none."""
    return "\n".join(map(budget, found)) or "There are no budgets."


def outlook(one: Json) -> str:
    """What a budget will come to."""
    unit = one["currency"] if one["unit"] == "cost" else one["unit"]
    if one["forecast"] is None:
        return f"{one['name']}: too little of its window is over to say what it will come to."
    forecast = one["forecast"]
    told = f"{one['name']}: {one['spent']} of {one['limit']} {unit} is spent; "
    if forecast["low"] is None:
        told += (
            "if it goes on as it has in this window (a straight line), it comes to "
            f"{forecast['expected']} by {one['window_end']}."
        )
    else:
        told += (
            f"it is forecast to come to {forecast['expected']} by {one['window_end']}, most likely between "
            f"{forecast['low']} and {forecast['high']}; such forecasts were off by "
            f"{forecast['backtest_error_percent']} % on average."
        )
    return told + _runs_out(one)


def _runs_out(one: Json) -> str:
    between = one.get("runs_out_between")
    if not one["runs_out_at"]:
        maybe = f", but may as early as {between['earliest']}" if between else ""
        return f" It does not run out before{maybe}."
    if not between:
        return f" It runs out at {one['runs_out_at']}."
    last = f"and {between['latest']}" if between["latest"] else "and the end, if at all"
    return f" It runs out at {one['runs_out_at']}, most likely between {between['earliest']} {last}."


def plan(answer: Json) -> str:
    """What may be planned, and what of each budget is left."""
    lines = [answer["sentence"]]
    for one in answer["budgets"]:
        unit = one["currency"] if one["unit"] == "cost" else one["unit"]
        if one["counts"]:
            kept = f"{one['amount']} {unit}, of {one['available']} available now, {one['others']} kept for others"
            lines.append(f"{one['name']} ({one['period']}) leaves {kept}: {one['explanation']}.")
        else:
            lines.append(f"{one['name']} ({one['period']}) {one['explanation']}.")
    return "\n".join(lines)


def advice(found: Json) -> str:
    """What is suggested, those that save most first, and what could not be."""
    lines = []
    for one in found["suggestions"]:
        todo = f" To do it: {one['apply']['command']}" if one["apply"]["command"] else ""
        lines.append(f"{one['title']}: saves {one['saving']} {found['currency']}. {one['assumption']}{todo}")
    if found["suggestions"]:
        lines.append(
            f"What makes calls cheaper saves {found['total_saving']} of {found['total_cost']} {found['currency']}"
            f" together, from {found['window_start']} to {found['window_end']}."
        )
    return "\n".join([*lines, *filter(None, [found["detail"]])])


def usage(report: Json) -> str:
    """Totals, and the groups if there are any."""
    lines = [f"From {report['window_start']} to {report['window_end']}: {_numbers(report, report['totals'])}."]
    for group in report["groups"]:
        name = ", ".join(str(value) for value in group["key"].values())
        lines.append(f"{name}: {_numbers(report, group)}.")
    if report["totals"]["unpriced_requests"]:
        lines.append(f"{report['totals']['unpriced_requests']} calls have no price and are in no cost.")
    return "\n".join(lines)


def _numbers(report: Json, sums: Json) -> str:
    return f"{sums['requests']} calls, {sums['total_tokens']} tokens, {sums['cost']} {report['currency']}"


def decisions(found: list[Json]) -> str:
    """Each with who asked for what."""
    lines = [f"{one['decided_at']} {one['component']}, {one['model']}: {decision(one)}" for one in found]
    return "\n".join(lines) or "There are none."


def holds(found: list[Json]) -> str:
    """Each with whose it is."""
    lines = [
        f"{one['component']}, {one['model']}: {one['amount'] or 'unpriced'} {one['currency']}, "
        f"until {one['expires_at']}."
        for one in found
    ]
    return "\n".join(lines) or "There are none."


def alerts(found: list[Json]) -> str:
    """Each as it was raised."""
    return "\n".join(f"{one['raised_at']} {one['message']}" for one in found) or "There are none."


def prices(found: list[Json]) -> str:
    """What tokens cost."""
    lines = [
        f"{one['provider']}/{one['model']}: {one['input']} {one['currency']} for {one['per']} tokens of input, "
        f"{one['output']} for {one['per']} of output."
        for one in found
    ]
    return "\n".join(lines) or "No price is known."


def recorded(result: Json) -> str:
    """What became of one recorded call."""
    if result.get("status") == "pending":
        return "Accepted; it is not in the ledger yet."
    said = f"{result['status'].capitalize()}: {result['total_tokens']} tokens"
    return f"{said}, {result['cost']} {result['currency']}." if result.get("cost") else f"{said}, without a price."


def _about_budgets(answer: Json) -> Iterator[str]:
    for one in answer.get("budgets") or ():
        if one["binding"]:
            yield f"What binds is {budget(one)}"
        elif one["would_exceed"]:
            yield f"It does not fit {budget(one)}"
    if answer.get("resets_at") and answer["action"] == "deny":
        yield f"It frees up at {answer['resets_at']}."
    yield from (f"Warning: {warning}." for warning in answer.get("warnings") or ())


def _instead(answer: Json) -> Iterator[str]:
    suggestions = answer.get("suggestions") or {}
    if suggestions.get("max_output_tokens"):
        yield f"It would fit with max_output_tokens {suggestions['max_output_tokens']}."
    for one in suggestions.get("alternatives") or ():
        yield f"{one['provider']}/{one['model']} would fit, for at most {one['estimated_cost']} {answer['currency']}."


def _held(answer: Json) -> Iterator[str]:
    if answer.get("hold"):
        yield (
            f"It is held until {answer['hold']['expires_at']}: record the usage with request_id {answer['request_id']}."
        )
