"""What the answers share: a question's slots as arguments of tools, and how sums and spans are put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from budget_bus.specialist.evidence import Evidence
from budget_bus.specialist.periods import Now, Span, today
from budget_bus.specialist.question import Question

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, what an answer may rest on, and the present."""

    question: Question
    evidence: Evidence
    now: Now

    @property
    def span(self) -> Span:
        """The period that is asked about; today unless the question says more."""
        return self.question.spans[0] if self.question.spans else today(self.now)

    async def usage(self, start: datetime, end: datetime, *, group_by: Sequence[str] = (), **filters: Any) -> Any:
        """Sums of what the question's names used in `[start, end)`."""
        wanted = {
            "component": [*self.question.components],
            "model": [*self.question.models],
            "provider": [*self.question.providers],
            "user": [*self.question.users],
            "task_type": [*self.question.task_types],
            **filters,
        }
        given = {name: value for name, value in wanted.items() if value}
        span = {"start_date": start.isoformat(), "end_date": end.isoformat()}
        return await self.evidence.ask("get_usage", group_by=list(group_by), **given, **span)

    def when(self, span: Span, report: Json) -> str:
        """The period as the question names it, and its bounds as the report has them."""
        label = span.label if span.number is None else span.label.format(self.evidence.asked(span.number))
        return f"{label} ({self.bounds(report)})"

    def bounds(self, report: Json) -> str:
        """The bounds of a report."""
        moment = self.evidence.moment
        return f"{moment(report['window_start'])} to {moment(report['window_end'])}"

    def whose(self) -> str:
        """The names that the question restricts itself to, or nothing."""
        asked = self.question
        others = asked.models or asked.providers or asked.users or asked.task_types
        parts = [
            joined(asked.components) or ("calls" if others else ""),
            f"with {joined(asked.models)}" if asked.models else "",
            f"from {joined(asked.providers)}" if asked.providers else "",
            f"for {joined(asked.users)}" if asked.users else "",
            f"on {joined(asked.task_types)}" if asked.task_types else "",
        ]
        return " ".join(part for part in parts if part)

    def sums(self, sums: Json, currency: str) -> str:
        """Cost, calls and tokens."""
        tokens = self.evidence.number(sums["total_tokens"])
        return f"{self.cost(sums, currency)} ({self.calls(sums['requests'])}, {tokens} tokens)"

    def calls(self, count: int) -> str:
        """A number of calls."""
        return f"{self.evidence.number(count)} call{'' if count == 1 else 's'}"

    def spent(self, sums: Json, currency: str, measure: str | None = None) -> str:
        """What somebody spent, or calls have cost; beginning with the measure that is asked for."""
        calls, tokens = self.calls(sums["requests"]), f"{self.evidence.number(sums['total_tokens'])} tokens"
        if measure == "requests":
            return f"made {calls}, of {tokens}, for {self.cost(sums, currency)}"
        if measure == "total_tokens":
            return f"used {tokens} in {calls}, for {self.cost(sums, currency)}"
        verb = "cost" if self.whose().startswith("calls") and not self.question.components else "spent"
        return f"{verb} {self.sums(sums, currency)}"

    def no_calls(self) -> str:
        """That there were none of what is asked for."""
        whose = self.whose()
        return f"no {whose if whose.startswith('calls') else f'calls by {whose}'}" if whose else "nobody made any calls"

    def cost(self, sums: Json, currency: str) -> str:
        """Cost, in every currency in which there was any."""
        others = [self.evidence.money(cost, other) for other, cost in (sums.get("other_costs") or {}).items()]
        return joined([self.evidence.money(sums["cost"], currency), *others])

    def unpriced(self, totals: Json) -> str:
        """What is in no cost, as a sentence of its own; nothing if all is."""
        count = totals["unpriced_requests"]
        return (
            f" {self.calls(count)} of a model without a price {'is' if count == 1 else 'are'} in no cost."
            if count
            else ""
        )


def joined(names: Sequence[str], word: str = "and") -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else ""


def capital(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]
