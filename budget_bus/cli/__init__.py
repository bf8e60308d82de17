"""
The `budget` command. One module per command, all listed in commands.py, which imports them when they are asked for;
heavy imports happen inside of them, so that every `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from budget_bus.cli.commands import LazyGroup
from budget_bus.errors import BudgetError, BudgetExceeded, BudgetUnavailable, ConfigError, Rejected, Retryable

app = typer.Typer(
    cls=LazyGroup,
    help="Budgets for LLM calls: limits that hold, usage that is counted once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _commands() -> None:
    """What commands.py lists."""


# Wrong usage that typer itself finds ends with 2 as well.
_EXIT_CODES: tuple[tuple[type[BudgetError], int], ...] = (
    (ConfigError, 2),
    (Rejected, 1),
    (BudgetUnavailable, 1),
    (BudgetExceeded, 1),
    (Retryable, 1),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 the service said no or is away, 2 bad usage. Never a traceback."""
    _run(app, "budget", arguments)


def main_of_api_app() -> None:
    """`python -m budget.api.app`: the same service under the name that the platform's other components know."""
    from budget_bus.cli.serve import serve_or_up  # noqa: PLC0415 - every module of a command is imported when it runs

    alias = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alias.command()(serve_or_up)
    _run(alias, "python -m budget.api.app", None)


def exit_code(error: BaseException) -> int:
    """The exit status that stands for *error*."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def _run(application: typer.Typer, name: str, arguments: Sequence[str] | None) -> None:
    try:
        application(None if arguments is None else list(arguments), prog_name=name)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader went away (`budget ... | head`); Python must not complain while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("BUDGET_DEBUG", "").lower() in ("1", "true", "yes", "on"):
            raise
        print(f"error: {_text(error)}", file=sys.stderr)
        sys.exit(exit_code(error))


def _text(error: Exception) -> str:
    if isinstance(error, (BudgetError, OSError)):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (BUDGET_DEBUG=true shows where)"
