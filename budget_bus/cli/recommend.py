"""`budget calc-cost` and `budget recommend`: what a call would cost at most, and which model fits for the least."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from budget_bus.cli.find import find_service
from budget_bus.cli.gateway import ask, url_of
from budget_bus.cli.render import Format, FormatOption, show
from budget_bus.errors import Rejected

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_PATIENCE_S = 60.0
_ASKER = "budget-cli"
_COST = {
    "Provider": "provider",
    "Model": "model",
    "Input tokens": "input_tokens",
    "Output tokens": "output_tokens",
    "Cost": "estimated_cost",
    "Currency": "currency",
    "Price": "price_status",
}
_MODELS = {
    "Provider": "provider",
    "Model": "model",
    "Costs at most": "estimated_cost",
    "Currency": "currency",
    "Price": "price_status",
    "Answer": "action",
}

ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="Such as openai.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Such as gpt-4o.")]
InputOption = Annotated[int, typer.Option(metavar="N", help="Tokens of the prompt.", min=0)]
OutputOption = Annotated[int, typer.Option(metavar="N", help="Tokens of the answer.", min=0)]
ComponentOption = Annotated[str, typer.Option(help="For whom the budgets are asked.")]


def calc_cost(
    provider: ProviderArgument,
    model: ModelArgument,
    *,
    input_tokens: InputOption = 0,
    output_tokens: OutputOption = 0,
    component: ComponentOption = _ASKER,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Say what a call would cost at most: what a check would hold. Nothing is held or recorded.

    Example: budget calc-cost openai gpt-4o --input-tokens 1000 --output-tokens 200
    """
    call = {"component": component, "provider": provider, "model": model, "input_tokens": input_tokens}
    _, answer = ask("POST", "/api/check", body={**call, "max_output_tokens": output_tokens, "hold": False})
    show([{**answer, **call, "output_tokens": output_tokens}], _COST, form)


def recommend(
    provider: ProviderArgument,
    model: ModelArgument,
    *,
    input_tokens: InputOption = 1000,
    output_tokens: OutputOption = 500,
    component: ComponentOption = _ASKER,
    alternative: Annotated[
        list[str] | None, typer.Option(metavar="PROVIDER/MODEL", help="Consider this one too; may be repeated.")
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List the models that fit the budgets, cheapest first.

    They are the one that you mean, its equivalents (`budget config`), --alternative, and what the service suggests.

    Example: budget recommend openai gpt-4o --input-tokens 4000 --alternative anthropic/claude-sonnet-4-5
    """
    call = {"component": component, "provider": provider, "model": model, "input_tokens": input_tokens}
    wish = {**call, "max_output_tokens": output_tokens, "alternatives": alternative}
    show(asyncio.run(_recommended(wish)), _MODELS, form, empty="none of these models fits the budgets")


async def _recommended(wish: dict[str, Any]) -> list[dict[str, Any]]:
    """As the agents' tool of that name says."""
    import httpx2
    from mcp.server.mcpserver.exceptions import ToolError

    from budget_bus.mcp.rest import Rest
    from budget_bus.mcp.tools import Tools

    settings = find_service()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    async with httpx2.AsyncClient(base_url=url_of(settings), timeout=_PATIENCE_S, trust_env=False) as client:
        try:
            told = await Tools(Rest(client, f"Bearer {key}" if key else None)).recommend_model(**wish)
        except ToolError as error:
            raise Rejected(str(error)) from None
    found: list[dict[str, Any]] = (told.structured_content or {})["models"]
    return found
