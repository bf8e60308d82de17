"""`budget --help` is quick, and every command says what it does with an example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand

import budget_bus.cli
from budget_bus.cli.commands import ENTRIES, Commands

HEAVY = ("aiokafka", "asyncpg", "httpx2", "pydantic", "rich", "starlette", "genai_prices")


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that there is, by its words."""
    if inner := getattr(command, "commands", None):
        for name, one in inner.items():
            yield from _commands(one, (*words, name))
    else:
        yield words, command


COMMANDS = dict(_commands(typer.main.get_command(budget_bus.cli.app)))


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60)


def _loaded(*arguments: str) -> set[str]:
    """The modules that a fresh process has after running a command."""
    code = f"""
import sys
from budget_bus.cli import main
try:
    main({list(arguments)})
except SystemExit:
    print("loaded:", *sys.modules)
"""
    told = _run("-c", code)
    return set(told.stdout.rpartition("loaded:")[2].split())


def test_help_loads_nothing_heavy_and_no_command() -> None:
    modules = _loaded("--help")
    assert {name for name in modules if name.startswith("budget_bus.cli.")} == {"budget_bus.cli.commands"}
    assert modules & {*HEAVY, "asyncio", "budget_bus.settings"} == set()


def test_a_commands_help_loads_nothing_heavy_and_no_other_command() -> None:
    modules = _loaded("limits", "set", "--help")
    assert "budget_bus.cli.limits" in modules
    # typer itself makes a command's parameters with pydantic.
    assert modules & {*HEAVY, "budget_bus.cli.prices", "budget_bus.cli.serve"} <= {"pydantic"}


@pytest.mark.parametrize("name", ENTRIES)
def test_the_list_says_of_each_command_what_it_says_of_itself(name: str) -> None:
    own = " ".join(Commands()[name].help.split())
    assert own.startswith(ENTRIES[name].help)
    for width in (40, 60):
        lines = [TyperCommand(name, help=text).get_short_help_str(width) for text in (own, ENTRIES[name].help)]
        assert lines[0] == lines[1]


def test_no_module_of_a_command_is_left_out() -> None:
    """One whose docstring says that it is `budget NAME` is in the list."""
    folder = Path(budget_bus.cli.__file__).parent
    told = {path.stem for path in folder.glob("*.py") if re.match(r'"""`budget \w', path.read_text())}
    parts = {"raises", "reallocating", "report_schedules"}  # of `budget limits` and `budget report`
    assert told - {entry.module for entry in ENTRIES.values()} == parts


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(words: tuple[str, ...]) -> None:
    # An example may go on in the next line.
    examples = re.findall(r"Example: (.+)", " ".join(COMMANDS[words].help.split()))
    # One function may be two commands, as set-limit is limits set.
    assert any("budget " in example for example in examples), words


def test_help_shows_the_example() -> None:
    told = _run("-m", "budget_bus.cli", "status", "--help")
    assert told.returncode == 0
    assert "Example: budget status" in told.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    told = _run("-m", "budget_bus.cli", "--show-completion", shell)
    assert told.returncode == 0
    assert "complete_" in told.stdout


def test_what_begins_so_is_offered() -> None:
    code = "import sys; from budget_bus.cli import app; app(prog_name='budget')"
    words = {"_BUDGET_COMPLETE": "complete_bash", "COMP_WORDS": "budget li", "COMP_CWORD": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **words},
    )
    assert told.stdout.split() == ["limits"]


def test_a_command_that_is_not_there_is_bad_usage() -> None:
    told = _run("-m", "budget_bus.cli", "limts")
    assert told.returncode == 2
    assert "limts" in told.stderr
