"""
Errors by consequence: what has happened to the message, the request or the process when one is raised.

BudgetError
|- Retryable          nothing was written; the same thing comes again
|  `- Fenced          another owner took the partition; this one must rejoin before it works again
|- Rejected           the message's or request's own fault: dead letter, HTTP 4xx, exit status 1
|  |- NotFound        what it names does not exist
|  |- Unauthorized    the gateway asks for a key, and got none that it knows
|  |- Forbidden       the key may not do this
|  `- Conflict        the same id was used before with a different content
|- BudgetUnavailable  the service, broker or database is away, or no answer came in time
|- BudgetExceeded     a guard's check was denied
`- ConfigError        the settings are wrong; the process does not start
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of an input; *field* is a dotted path, empty for the whole body."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class BudgetError(Exception):
    """Root of all errors that this package raises on purpose."""


class Retryable(BudgetError):
    """Nothing was written; doing the same again may succeed."""


class Fenced(Retryable):
    """This consumer's epoch of a partition is over: another owner has taken it."""


class Rejected(BudgetError):
    """The input cannot be used. Nothing was written but, on a topic, its dead letter."""

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "; ".join([self.detail, *map(str, self.errors)])


class NotFound(Rejected):
    """What the request names does not exist."""


class Unauthorized(Rejected):
    """No key was sent, or none that is known."""


class Forbidden(Rejected):
    """The key is known, and may not do what was asked for."""


class Conflict(Rejected):
    """The same id was used before with a different content; the first one stands."""


class BudgetUnavailable(BudgetError):
    """The service, its broker or its database is away, or no answer came in time. The outcome is unknown."""

    def __init__(self, detail: str, *, request_id: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.request_id = request_id


class BudgetExceeded(BudgetError):
    """A guard's check was denied; *info* is the decision as `POST /api/check` answers it."""

    def __init__(self, reason: str, info: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.info = dict(info)


class ConfigError(BudgetError):
    """The settings are wrong; nothing was started."""
