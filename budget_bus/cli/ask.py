"""`budget ask`: questions to the budget specialist."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from budget_bus.cli.find import find_service
from budget_bus.cli.render import printable, show_json
from budget_bus.errors import BudgetUnavailable, ConfigError, Rejected

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_LOOPBACK = "127.0.0.1"
_TIMEOUT_S = 180.0  # a language model may take its time
_MOST_TURNS = 20


class AnswerFormat(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


def ask(
    question: Annotated[
        list[str] | None, typer.Argument(help="The question; without it you are asked for some.")
    ] = None,
    *,
    component: Annotated[str | None, typer.Option(help='Who "I" is: the component that asks.')] = None,
    form: Annotated[AnswerFormat, typer.Option("--format", help="How to print it.")] = AnswerFormat.TEXT,
) -> None:
    """
    Ask the budget specialist, in plain English. It listens at BUDGET_AI_PORT, as `budget up` starts it.

    Example: budget ask "who spent most today?"
    """
    text = " ".join(question or ())
    if not text and not sys.stdin.isatty():
        raise ConfigError('no question: budget ask "who spent most today?"')
    with _Line(find_service().ai_port) as line:
        if text:
            _show(line.ask(text, component, []), form)
        else:
            _converse(line, component, form)


def _converse(line: _Line, component: str | None, form: AnswerFormat) -> None:
    print('Ask about the budgets, for example "who spent most today?"; an empty line ends it.')
    history: list[dict[str, str]] = []
    while True:
        try:
            text = input("? ").strip()
        except EOFError:
            print()
            return
        if not text:
            return
        try:
            answer = line.ask(text, component, history[-2 * _MOST_TURNS :])
        except Rejected as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        _show(answer, form)
        history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer["content"]}]


def _show(answer: Any, form: AnswerFormat) -> None:
    if form is AnswerFormat.JSON:
        show_json(answer)
    else:
        print(printable(answer["content"]))


class _Line:
    """A connection to the specialist."""

    def __init__(self, port: int) -> None:
        import socket

        self._where = f"{_LOOPBACK}:{port}"
        try:
            self._socket = socket.create_connection((_LOOPBACK, port), timeout=_TIMEOUT_S)
        except OSError as error:
            raise BudgetUnavailable(
                f"no budget specialist answers at {self._where}: {error}; start one with `budget up` or "
                "`budget serve specialist`, or set BUDGET_AI_PORT"
            ) from None
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, text: str, component: str | None, history: list[dict[str, str]]) -> Any:
        """
        The reply to a question.

        Raises:
            Rejected: the specialist says why it has no answer.
            BudgetUnavailable: it is gone, or what answers is something else.
        """
        request = {"type": "chat", "content": text, "component": component, "history": history}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(self._file.readline())
            kind, said = reply["type"], reply.get("content") or reply.get("error")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise BudgetUnavailable(f"what listens at {self._where} gave no answer; check BUDGET_AI_PORT") from None
        if kind != "response" or not isinstance(said, str):
            raise Rejected(printable(str(said)))
        return reply
