"""The answers without a language model: question -> intent -> tools -> sentences."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from budget_bus.specialist.answers import budgets, checks, prices, usage
from budget_bus.specialist.answers.asking import Asked, joined
from budget_bus.specialist.evidence import Evidence
from budget_bus.specialist.grammar import EXAMPLES
from budget_bus.specialist.names import Names, names_of
from budget_bus.specialist.periods import Now
from budget_bus.specialist.protocol import QUESTION_CHARS
from budget_bus.specialist.question import Question, understand

_MOST_TURNS: Final = 5
_YES = re.compile(r"\W*(?:yes|yep|yeah|right|correct|sure|exactly|i did|that one)\b", re.IGNORECASE)
_ANSWERS: Final[Mapping[str, Callable[[Asked], Awaitable[str]]]] = {
    "afford": checks.afford,
    "alerts": budgets.alerts,
    "cheapest": prices.cheapest,
    "compare": usage.compare,
    "decision": checks.decision,
    "denials": checks.denials,
    "forecast": budgets.forecast,
    "holds": budgets.holds,
    "left": budgets.left,
    "limits": budgets.limits,
    "price": prices.price,
    "spend": usage.spend,
    "top": usage.top,
    "unpriced": usage.unpriced,
}
# These look an unknown model up in the prices before they say that it is unknown.
_LOOK_UP: Final = ("price", "afford", "cheapest")


async def answer(
    text: str, before: Sequence[str], evidence: Evidence, now: Now, *, component: str | None = None
) -> str:
    """
    The answer to *text*, after the questions *before*; every figure in it is known to *evidence*.

    Raises:
        ToolError: in plain words, what the service refuses, or that it is away.
    """
    names = await names_of(evidence.tools, now.at)
    earlier = [one for one in before[-_MOST_TURNS:] if len(one) <= QUESTION_CHARS]
    if _YES.match(text) and earlier:
        text = _corrected(earlier.pop(), names)
    # With thousands of names it takes a while, in which others must be served.
    question = await asyncio.to_thread(understand, text, earlier, names, now, component=component)
    said = await _answer(question, evidence, now)
    unknown = evidence.known.unknown(said)
    assert not unknown, f"{unknown} would be invented in {said!r}"  # noqa: S101 - our own bug
    return said


def _corrected(text: str, names: Names) -> str:
    """The question with each unknown name as it was probably meant."""
    for one in names.find(text).unknown:
        if one.meant:
            text = text.replace(one.word, one.meant[0])
    return text


async def _answer(question: Question, evidence: Evidence, now: Now) -> str:
    for name in _names_in(question):
        evidence.known.names.add(name)
    if question.intent == "help":
        return _HELP
    if question.intent is None:
        return f"I did not understand that. {_HELP}"
    if question.unknown and question.intent not in _LOOK_UP:
        return _unknown(question)
    if question.odd_period:
        return _PERIODS
    asked = Asked(question, evidence, now)
    if question.intent in _LOOK_UP and question.unknown and not await _priced(asked):
        return _unknown(question)
    return await _ANSWERS[question.intent](asked)


async def _priced(asked: Asked) -> bool:
    """Whether the unknown names are those of models that have a price; a part of a name will do."""
    for one in asked.question.unknown:
        if not (await asked.evidence.ask("list_prices", model=one.word))["items"]:
            return False
    return True


def _names_in(question: Question) -> list[str]:
    spoken = [name for one in question.unknown for name in (one.word, *one.meant)]
    return [*question.components, *question.models, *question.providers, *question.users, *question.task_types,
            *question.budgets, *spoken]  # fmt: skip


def _unknown(question: Question) -> str:
    lines = []
    for one in question.unknown:
        did = f"; did you mean {joined(one.meant, 'or')}?" if one.meant else "."
        lines.append(f'I know no {(one.kind or "name").replace("_", " ")} "{one.word}"{did}')
    return " ".join([*lines, "Nothing was used lately under such a name, and no budget has it."])


_PERIODS: Final = (
    "I do not know that period. Say, for example: today, yesterday, this week, last month, the last days with their "
    "number, a weekday, or a date as year-month-day."
)
_HELP: Final = "\n".join(["You can ask, for example:", *(f"- {example}" for example in EXAMPLES)])
