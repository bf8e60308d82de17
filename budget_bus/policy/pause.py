"""May anybody of this scope call at all: pauses, which come before every budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from budget_bus.policy.decide import Action, Verdict
from budget_bus.policy.scope import Call, Scope

_NEVER = datetime.max.replace(tzinfo=UTC)
PAUSED = "paused: "  # how the reason of every denial by a pause begins


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing of *scope* is allowed before *until*; None: until somebody resumes it. *since* is only told."""

    pause_id: UUID
    scope: Scope
    reason: str
    actor: str
    since: datetime
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """
        Whether it has not ended by itself. Not compared with *since*: who knows of a pause knows that it was
        committed, and a clock that is a little behind must not let one more call pass.
        """
        return self.until is None or now < self.until


def decide_paused(pauses: Iterable[Pause], call: Call, now: datetime) -> Verdict | None:
    """
    The denial of *call* if it is paused, else None: then budgets decide.

    A pause is absolute: neither a critical call nor a free model passes. Of several the one that ends last is named,
    for waiting for the others would not help.
    """
    found = [pause for pause in pauses if pause.holds(now) and pause.scope.admits(call)]
    if not found:
        return None
    last = max(found, key=lambda pause: pause.until or _NEVER)
    return Verdict(Action.DENY, PAUSED + last.reason, until=last.until)
