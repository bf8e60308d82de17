"""A call that does not fit -> what would: a smaller answer, or a cheaper model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from budget_bus.consumers.estimates import Estimate, Estimator
from budget_bus.consumers.incoming import call_of
from budget_bus.events.checks import Alternative, CheckRequested, Suggestions
from budget_bus.money import Nanos, format_nanos
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.decide import Line
from budget_bus.policy.scope import Call
from budget_bus.policy.suggest import Candidate, cheaper, largest_output
from budget_bus.providers.names import canonical_provider

# The lines of another call, or None if one of its budgets is not locked: what is left there is not known.
LinesOf = Callable[[Call, Estimate], Sequence[Line] | None]


@dataclass(frozen=True, slots=True)
class Misfit:
    """
    A call that does not fit, with its estimate and the lines that say so.

    `groups` are the models that the operator holds to be equal, each as provider/model.
    """

    asked: CheckRequested
    call: Call
    estimate: Estimate
    lines: Sequence[Line]
    at: datetime
    estimator: Estimator
    lines_of: LinesOf
    amount_on: Callable[[Budget, Estimate], int | None]
    left_in: Callable[[Line, str], int]
    groups: Sequence[Sequence[str]]

    def suggest(self) -> Suggestions:
        """What would pass the hard and soft limits that the call does not; nothing if no call of any size would."""
        bounding = [line for line in self.lines if _bounds(line)]
        if any(line.left < 1 for line in bounding if line.amount != 0):
            return Suggestions()
        return Suggestions(max_output_tokens=self._output(bounding), alternatives=self._alternatives(bounding))

    def _output(self, bounding: Sequence[Line]) -> int | None:
        if self.estimate.output_tokens is None:
            return None

        def fits(output_tokens: int) -> bool:
            smaller = self.estimator.with_output(
                self.asked, self.call.provider, output_tokens, at=self.at, input_tokens=self.estimate.input_tokens
            )
            return smaller is not None and all(self._fits(line, smaller) for line in bounding)

        return largest_output(fits, self.estimate.output_tokens - 1)

    def _alternatives(self, bounding: Sequence[Line]) -> list[Alternative]:
        costs = [line for line in bounding if line.budget.spec.unit is Unit.COST]
        if self.estimate.cost is None or not any(line.would_exceed for line in costs):
            return []
        estimates: dict[tuple[str, str], Estimate] = {}

        def fits(candidate: Candidate) -> bool:
            other = {"provider": candidate.provider, "model": candidate.model}
            estimate = estimates[candidate.provider, candidate.model]
            theirs = self.lines_of(call_of(self.asked.model_copy(update=other)), estimate)
            return theirs is not None and not any(line.would_exceed for line in theirs if _bounds(line))

        left = min(self.left_in(line, self.estimate.currency) for line in costs)
        found = self._candidates(estimates, Nanos(left))
        return [
            Alternative(provider=one.provider, model=one.model, estimated_cost=format_nanos(one.cost))
            for one in cheaper(found, than=self.estimate.cost, fits=fits)
        ]

    def _candidates(self, estimates: dict[tuple[str, str], Estimate], at_most: Nanos) -> Iterator[Candidate]:
        """Other models for the same call; their estimates go into *estimates*."""
        provider = self.call.provider
        for model, other in self.estimator.alternatives(self.asked, provider, at=self.at, at_most=at_most):
            estimates[provider, model] = other
            yield Candidate(provider, model, other.cost or Nanos(0), False)
        for provider, model in self._equivalents():
            other = self.estimator.elsewhere(self.asked, provider, model, at=self.at)
            if other.cost is not None:
                estimates[provider, model] = other
                yield Candidate(provider, model, other.cost, True)

    def _fits(self, line: Line, estimate: Estimate) -> bool:
        amount = self.amount_on(line.budget, estimate)
        return amount is not None and amount <= line.left

    def _equivalents(self) -> Iterable[tuple[str, str]]:
        """The models that share a group with the one that was asked for."""
        own = (self.call.provider, self.call.model)
        for group in self.groups:
            members = [_model(name) for name in group]
            if own in members:
                yield from (member for member in members if member != own)


def _model(name: str) -> tuple[str, str]:
    provider, _, model = name.partition("/")
    return canonical_provider(provider), model


def _bounds(line: Line) -> bool:
    return line.enforced and line.policy in (Policy.HARD_LIMIT, Policy.SOFT_LIMIT)
