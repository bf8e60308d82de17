"""
Every command of `budget`: its name, where it is, and its line in the help.

A command's module is imported when the command is asked for, so that the help, and each command, waits for no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

_QUIET: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


class Entry(NamedTuple):
    """A function or a typer app, in a module of this package; `help` is how its own help begins."""

    module: str
    attribute: str
    help: str


# In the order of the help.
ENTRIES = {
    "up": Entry("up", "up", "Start database, broker, gateway and workers on this machine, and stop them on Ctrl-C."),
    "serve": Entry("serve", "serve", "Run one role against the configured database and broker, until Ctrl-C."),
    "demo": Entry("demo.command", "demo", "Play traffic of four made-up components against the running service"),
    "status": Entry("status", "status", "Show the service's health and the balances of the current windows."),
    "set-limit": Entry(
        "limits", "set_limit", "Create a budget, or change the one with the same scope, period and unit"
    ),
    "get-usage": Entry(
        "usage", "get_usage", "Show requests, tokens and cost of a period's current window, or of any span."
    ),
    "report": Entry("report", "report", "Report usage over time, or have it reported again and again."),
    "export": Entry("export", "export", "Export the ledger's rows as CSV or FOCUS 1.2."),
    "forecast": Entry(
        "forecast", "show_forecasts", "Show what budgets will come to by their windows' ends, and when they run out."
    ),
    "plan": Entry(
        "plan", "show_plan", "Say how much a component may plan to spend until a moment, and with what confidence."
    ),
    "import": Entry("importing.command", "import_usage", "Import past usage through Kafka."),
    "recalculate": Entry(
        "recalculate", "recalculate", "Restate recorded costs at the prices that hold today for their time."
    ),
    "ask": Entry("ask", "ask", "Ask the budget specialist, in plain English."),
    "simulate": Entry(
        "simulate", "simulate", "Replay a range of the past against what is proposed; with no proposal, as it was."
    ),
    "optimize": Entry("optimize", "optimize", "Suggest what would save money, and limits that would do better"),
    "mcp": Entry("mcp", "mcp", "Serve the tools for agents on standard input and output (Model Context Protocol)"),
    "limits": Entry("limits", "limits", "List, set and remove budgets."),
    "config": Entry("config", "config", "List, get, set and unset the run-time settings."),
    "allocate": Entry("allocate", "allocate", "Give components parts of a budget, list them, and take them back."),
    "calc-cost": Entry("recommend", "calc_cost", "Say what a call would cost at most: what a check would hold."),
    "recommend": Entry("recommend", "recommend", "List the models that fit the budgets, cheapest first."),
    "prices": Entry("prices", "prices", "List prices, set your own, and update the price data."),
    "reconcile": Entry("reconcile", "reconcile", "Compare the books with what providers say that they charged."),
    "alerts": Entry("alerts", "alerts", "List alerts, acknowledge them, or wait for new ones."),
    "anomalies": Entry("anomalies", "anomalies", "List what looks wrong in how money is spent."),
    "pause": Entry("pauses", "pause", "Let nobody of a scope make calls, until it is resumed or for a time."),
    "resume": Entry("pauses", "resume", "End a pause: its scope may make calls again."),
    "pauses": Entry("pauses", "list_pauses", "List the pauses that hold, or all that there ever were."),
    "holds": Entry("holds", "holds", "List what is set aside for calls, and give it back."),
    "decisions": Entry("decisions", "decisions", "List and show the answers that checks got."),
    "changes": Entry("changes", "changes", "List who changed what, from what to what, newest first."),
    "debug": Entry("debug", "debug", "Find out why numbers are not what they should be."),
    "keys": Entry("keys", "keys", "Add, list and revoke the gateway's API keys."),
    "topics": Entry("topics", "topics", "Make and check the topics."),
    "db": Entry("database", "database", "Bring the database up to date; check the books."),
    "dlq": Entry("dlq", "dlq", "Dead letters: list, show and replay them."),
}


class Commands(dict[str, Any]):
    """The commands by their names, each made when it is asked for."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(ENTRIES))

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            self[name] = _made(name, ENTRIES[name])
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any dict."""
        return self[name] if name in ENTRIES else default

    def items(self) -> Any:
        """As of any dict; makes all of them."""
        return {name: self[name] for name in self}.items()

    def values(self) -> Any:
        """As of any dict; makes all of them."""
        return dict(self.items()).values()


class LazyGroup(TyperGroup):
    """The group of all commands, which says what they are without them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": Commands()})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ENTRIES)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = formatter.width - 6 - max(map(len, ENTRIES))
        with formatter.section("Commands"):
            formatter.write_dl(list(_lines(width)))


def _lines(width: int) -> Iterator[tuple[str, str]]:
    for name, entry in ENTRIES.items():
        yield name, TyperCommand(name, help=entry.help).get_short_help_str(width)


def _made(name: str, entry: Entry) -> Any:
    found = getattr(import_module(f"budget_bus.cli.{entry.module}"), entry.attribute)
    outer = typer.Typer(**_QUIET)
    # With a callback it is a group, also if it has only one command.
    outer.callback()(_nothing)
    if isinstance(found, typer.Typer):
        outer.add_typer(found, name=name)
    else:
        outer.command(name)(found)
    group = typer.main.get_command(outer)
    assert isinstance(group, TyperGroup)  # noqa: S101 - a callback makes it one
    return group.commands[name]


def _nothing() -> None:
    """What all commands have in common."""
