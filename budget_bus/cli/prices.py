"""`budget prices`: what models cost, and what an operator sets."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json

prices = typer.Typer(help="List prices, set your own, and update the price data.", no_args_is_help=True)

_PATH = "/api/providers/prices"
_COLUMNS = {
    "Provider": "provider",
    "Model": "model",
    "Tier": "service_tier",
    "Input": "input",
    "Output": "output",
    "Cache read": "cache_read",
    "Cache write": "cache_creation",
    "Per": "per",
    "Currency": "currency",
    "Status": "price_status",
    "From": "effective_from",
    "Source": "source",
}


_COMPARED = {
    "Provider": "provider",
    "Model": "model",
    "Class": "token_class",
    "Ours": "ours",
    "Theirs": "theirs",
    "Same name": "same_name",
    "Regional": "regional",
    "Withdrawn": "ends",
}
_REVIEWS = {
    "Provider": "provider",
    "Model": "model",
    "Why": "reason",
    "Found": "found_at",
}


class Per(StrEnum):
    """How many tokens a price is for."""

    THOUSAND = "1K"
    MILLION = "1M"


class Tier(StrEnum):
    """How a call is processed."""

    STANDARD = "standard"
    BATCH = "batch"
    FLEX = "flex"
    PRIORITY = "priority"


ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="Its name, such as anthropic.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model; its dated names follow it.")]
TierOption = Annotated[Tier, typer.Option("--service-tier", help="Of which service tier.")]
Rate = str | None


def _rate(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar="AMOUNT", help=f"For {what}.")


@prices.command("list")
def list_prices(
    *,
    provider: Annotated[str | None, typer.Option("--provider", help="Only this provider's.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model, wherever it is sold.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="INSTANT", help="When, such as 2026-01-31T12:00:00Z; now.")
    ] = None,
    tier: TierOption = Tier.STANDARD,
    own: Annotated[bool, typer.Option("--own", help="Only what was set here, whenever it holds.")] = False,
    per: Annotated[Per, typer.Option("--per", help="For how many tokens they are written.")] = Per.MILLION,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List what models cost: what was set here, else the price data.

    Example: budget prices list --provider anthropic
    """
    query = {"provider": provider, "model": model, "at": at, "service_tier": tier.value, "per": per.value}
    found = items(_PATH, {**query, **({"own": "true"} if own else {})})
    empty = "nothing was set here" if own else "no price is known; `budget prices set` sets one"
    show(found, _COLUMNS, form, empty=empty)


@prices.command("set")
def set_price(
    provider: ProviderArgument,
    model: ModelArgument,
    *,
    input_rate: Annotated[str, _rate("input", "input tokens")],
    output_rate: Annotated[str, _rate("output", "output tokens")],
    cache_read: Annotated[Rate, _rate("cache-read", "input tokens that were read from a cache")] = None,
    cache_creation: Annotated[Rate, _rate("cache-creation", "input tokens that were written to a cache")] = None,
    reasoning_output: Annotated[Rate, _rate("reasoning-output", "output tokens of reasoning")] = None,
    input_audio: Annotated[Rate, _rate("input-audio", "input tokens of audio")] = None,
    output_audio: Annotated[Rate, _rate("output-audio", "output tokens of audio")] = None,
    cache_creation_1h: Annotated[
        Rate, _rate("cache-creation-1h", "input tokens that a cache keeps for an hour")
    ] = None,
    input_image: Annotated[Rate, _rate("input-image", "input tokens of images")] = None,
    output_image: Annotated[Rate, _rate("output-image", "output tokens of images")] = None,
    per_request: Annotated[Rate, _rate("per-request", "each call, on top of its tokens")] = None,
    per: Annotated[Per, typer.Option("--per", help="How many tokens the amounts are for.")] = Per.THOUSAND,
    tier: TierOption = Tier.STANDARD,
    since: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="From when, on a quarter of an hour; now.")
    ] = None,
) -> None:
    """
    Set what a model costs, in USD per 1,000 tokens. What is recorded from now on is priced so, and so is usage of that
    time that had no price; `budget recalculate` restates what had another.

    Example: budget prices set anthropic claude-3-opus --input 0.015 --output 0.075
    """
    said = {
        "provider": provider, "model": model, "input": input_rate, "output": output_rate, "cache_read": cache_read,
        "cache_creation": cache_creation, "reasoning_output": reasoning_output, "input_audio": input_audio,
        "output_audio": output_audio, "cache_creation_1h": cache_creation_1h, "input_image": input_image,
        "output_image": output_image, "per_request": per_request, "per": per.value, "service_tier": tier.value,
        "effective_from": since,
    }  # fmt: skip
    _, answer = ask("PUT", _PATH, body={name: value for name, value in said.items() if value is not None})
    price, before = answer["price"], answer["before"]
    what = printable(f"{price['provider']} {price['model']} ({price['service_tier']})")
    was = f"; until now {_words(before)}" if before else "; until now it had no price"
    changed = was if answer["changed"] else ", as it was"
    print(f"{what}: {_words(price)} from {price['effective_from']} on{changed}")


@prices.command("unset")
def unset_price(
    provider: ProviderArgument,
    model: ModelArgument,
    tier: Annotated[Tier | None, typer.Option("--service-tier", help="Only of this tier.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="INSTANT", help="Only the one from then on.")] = None,
) -> None:
    """
    Take back what was set for a model, so that the price data holds again.

    Example: budget prices unset anthropic claude-3-opus
    """
    query = {"provider": provider, "model": model, "service_tier": tier and tier.value, "effective_from": since}
    ask("DELETE", _PATH, query=query)
    _, page = ask("GET", _PATH, query={"provider": provider, "model": model, "per": Per.THOUSAND.value})
    now = _words(page["items"][0]) if page["items"] else "without a price"
    print(printable(f"{provider} {model}: {now}"))


@prices.command("update")
def update_prices(
    everything: Annotated[
        bool, typer.Option("--all", help="Every provider's; there is nothing less to update.")
    ] = True,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Fetch newer price data. What moves too far, or vanishes, waits for `budget prices approve`; offline, the last good
    data stays.

    Example: budget prices update --all
    """
    del everything
    _, told = ask("POST", f"{_PATH}/update", body={})
    if form is Format.JSON:
        show_json(told)
        return
    print(printable(f"{told['detail']} ({told['models']} models, {told['source']})"))
    if told["waiting"]:
        show(told["waiting"], _REVIEWS, form)
        print("`budget prices approve` or `reject` decides them", file=sys.stderr)


@prices.command("compare")
def compare_prices(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="litellm's model_prices_and_context_window.json.")],
    provider: Annotated[str | None, typer.Option("--provider", help="Only this provider's.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show where a second table of prices says something else than what is charged here; nothing is changed.

    Example: budget prices compare model_prices_and_context_window.json --provider anthropic
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror or error}") from None
    _, told = ask("POST", f"{_PATH}/compare", content=raw, query={"provider": provider, "model": model})
    show(told["disagreements"], _COMPARED, form, empty="the two agree wherever both have a price")
    print(f"{told['agree']} of {told['compared']} figures agree within 1 %", file=sys.stderr)


@prices.command("reviews")
def list_reviews(form: FormatOption = Format.TABLE) -> None:
    """
    List the fetched prices that are not in force because they moved too far or vanished.

    Example: budget prices reviews
    """
    show(items(f"{_PATH}/reviews"), _REVIEWS, form, empty="nothing waits")


@prices.command("approve")
def approve_price(provider: ProviderArgument, model: ModelArgument) -> None:
    """
    Take over a fetched price that waits.

    Example: budget prices approve openai gpt-4o
    """
    _decide(provider, model, approve=True)


@prices.command("reject")
def reject_price(provider: ProviderArgument, model: ModelArgument) -> None:
    """
    Keep the old price; the same one is not asked about again.

    Example: budget prices reject openai gpt-4o
    """
    _decide(provider, model, approve=False)


def _decide(provider: str, model: str, *, approve: bool) -> None:
    body = {"provider": provider, "model": model, "approve": approve}
    _, review = ask("POST", f"{_PATH}/reviews", body=body)
    print(printable(f"{review['provider']} {review['model']}: {review['state']} ({review['reason']})"))


def _words(price: dict[str, Any]) -> str:
    return f"{price['input']} in, {price['output']} out {price['currency']} per {price['per']}"
