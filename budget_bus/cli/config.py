"""`budget config`: the settings that can be changed while everything runs."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json

config = typer.Typer(help="List, get, set and unset the run-time settings.", no_args_is_help=True)

_COLUMNS = {
    "Key": "key",
    "Value": "value",
    "Source": "source",
    "Default": "default",
    "Description": "description",
}


def _name(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("must not be empty; `budget config list` shows the keys")
    return text.strip()


def parse_value(text: str) -> Any:
    """What was typed as JSON, else as the text that it is; the beginning of a list must not be taken for text."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        if text.lstrip().startswith(("[", "{")):
            raise typer.BadParameter(f"is not JSON: {error}; mind the shell's quotes", param_hint="VALUE") from None
        return text


KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="Its name, as `budget config list` shows it.", callback=_name)
]
ValueArgument = Annotated[str, typer.Argument(metavar="VALUE", help="Bare text, or JSON.")]


@config.command("list")
def list_config(form: FormatOption = Format.TABLE) -> None:
    """
    List the run-time settings, what they are, and where that is from.

    Example: budget config list --format json
    """
    show(items("/api/config"), _COLUMNS, form)


@config.command("get")
def get_config(key: KeyArgument, form: FormatOption = Format.TABLE) -> None:
    """
    Print what a run-time setting is: the bare value; with --format json or csv all that is known of it.

    Example: budget config get enforcement_level
    """
    _, setting = ask("GET", _path(key))
    if form is Format.TABLE:
        print(_shown(setting["value"]))
    elif form is Format.JSON:
        show_json(setting)
    else:
        show([setting], _COLUMNS, form)


@config.command("set")
def set_config(key: KeyArgument, value: ValueArgument) -> None:
    """
    Set a run-time setting; it is in force from the next decision on, in every process, and outlives them.

    Example: budget config set enforcement_level HARD_LIMIT
    """
    _, setting = ask("PUT", _path(key), body={"value": parse_value(value)})
    print(f"{setting['key']} is now {_shown(setting['value'])}")


@config.command("unset")
def unset_config(key: KeyArgument) -> None:
    """
    Give a run-time setting back to the environment, `.env.budget` or its default.

    Example: budget config unset enforcement_level
    """
    _, setting = ask("DELETE", _path(key))
    print(f"{setting['key']} is now {_shown(setting['value'])} ({setting['source']})")


def _path(key: str) -> str:
    return f"/api/config/{quote(key, safe='')}"


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
