"""`budget keys`: who may ask the gateway for what. They work on the keys file, not over the gateway."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budget_bus.cli.render import Format, FormatOption, show, show_json
from budget_bus.errors import ConfigError, Rejected
from budget_bus.keys.key import KeyRole, new_key

if TYPE_CHECKING:
    from budget_bus.keys.file import Key

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

keys = typer.Typer(help="Add, list and revoke the gateway's API keys.", no_args_is_help=True)

_COLUMNS = {"Name": "name", "Roles": "roles", "Components": "components", "Created": "created_at"}

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the key is called, such as rhetor.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="The keys file; else that of BUDGET_API_KEYS_FILE.")]


@keys.command("add")
def add(
    name: NameArgument,
    *,
    roles: Annotated[list[KeyRole], typer.Option("--role", help="What it may do; may be repeated.")],
    components: Annotated[
        list[str] | None,
        typer.Option(
            "--component", help="It may check, record, release and extend for this one only; may be repeated."
        ),
    ] = None,
    file: FileOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Make a key and print it, this once: only its hash is kept.

    Example: budget keys add rhetor --role record --role check --component rhetor
    """
    from budget_bus.keys.file import add_key, make_key

    path, text = _path(file), new_key()
    try:
        key = make_key(text, name=name, roles=roles, components=components or (), created_at=_now())
    except Rejected as error:
        raise typer.BadParameter("; ".join(map(str, error.errors))) from None
    add_key(path, key)
    row = {**_row(key), "key": text}
    if form is Format.JSON:
        show_json(row)
    elif form is Format.CSV:
        show([row], {**_COLUMNS, "Key": "key"}, form)
    else:
        print(text)
        print(f"added {key.name} to {path}; this is the only time that its key is shown", file=sys.stderr)


@keys.command("list")
def list_keys(*, file: FileOption = None, form: FormatOption = Format.TABLE) -> None:
    """
    List the keys by name with what they may do; nobody can show a key itself again.

    Example: budget keys list --format json
    """
    from budget_bus.keys.file import read_keys

    path = _path(file)
    show([_row(key) for key in read_keys(path)], _COLUMNS, form, empty=f"{path} has no keys")


@keys.command("revoke")
def revoke(name: NameArgument, *, file: FileOption = None) -> None:
    """
    End a key. A gateway that runs refuses it within a second.

    Example: budget keys revoke rhetor
    """
    from budget_bus.keys.file import revoke_key

    path = _path(file)
    revoke_key(path, name)
    print(f"revoked {name} in {path}")


def _path(file: Path | None) -> Path:
    from budget_bus.settings import load_settings

    path = file or load_settings().api_keys_file
    if path is None:
        raise ConfigError("BUDGET_API_KEYS_FILE is not set; set it to where the keys are to be kept, or give --file")
    return path


def _row(key: Key) -> dict[str, Any]:
    return key.model_dump(mode="json", include={*_COLUMNS.values()})


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
