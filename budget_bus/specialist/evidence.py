"""What an answer rests on: the results of tools, and what was exactly computed from their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, Final

from mcp.server.mcpserver.exceptions import ToolError

from budget_bus.mcp.tools import Tools
from budget_bus.specialist.figures import Known, written

_NANO: Final = Decimal("1e-9")
_TENTH: Final = Decimal("0.1")
_DIGITS: Final = 60


@dataclass(frozen=True, slots=True)
class ToolResult:
    """One tool that was asked, with what, and its structured answer."""

    tool: str
    arguments: Mapping[str, Any]
    content: Any


@dataclass(frozen=True, slots=True)
class Derived:
    """One exact operation: `inputs` are figures that are known, `value` is what it gives."""

    operation: str
    inputs: tuple[Decimal, ...]
    value: Decimal


@dataclass(slots=True)
class Evidence:
    """
    The only way by which figures get into an answer. Each method that writes one insists that it is known: in a tool's
    result, in the question, or derived from such ones by one of the operations below.
    """

    tools: Tools
    zone: tzinfo = UTC
    results: list[ToolResult] = field(default_factory=list)
    derived: list[Derived] = field(default_factory=list)
    known: Known = field(init=False)

    def __post_init__(self) -> None:
        self.known = Known(self.zone)

    async def ask(self, tool: str, **arguments: Any) -> Any:
        """
        The structured answer of one of the tools for agents; its figures may be said from now on.

        Raises:
            ToolError: in plain words, what the service refuses, or that it is away.
        """
        told = await getattr(self.tools, tool)(**arguments)
        self.add(tool, arguments, told.structured_content)
        return told.structured_content

    def add(self, tool: str, arguments: Mapping[str, Any], content: Any) -> None:
        """Take in a result."""
        self.results.append(ToolResult(tool, arguments, content))
        self.known.learn(content)

    def asked(self, number: int | Decimal) -> str:
        """A number that the question itself has."""
        self.known.numbers.add(Decimal(number))
        return self.number(number)

    def number(self, value: int | str | Decimal) -> str:
        """A count or an amount, as exact as it is."""
        exact = self._known(value)
        return f"{exact:,f}"

    def money(self, value: str | Decimal, unit: str) -> str:
        """An amount with its currency or unit."""
        return f"{self.number(value)} {unit}"

    def percent(self, value: str | Decimal) -> str:
        """A percentage of a result, or a share that was computed."""
        exact = Decimal(value)
        assert abs(exact) in self.known.percents, f"{value} % is in no result"  # noqa: S101 - it would be invented
        return f"{exact:f} %"

    def moment(self, at: str | datetime) -> str:
        """A moment of a result, to the minute."""
        return f"{self._local(at):%Y-%m-%d %H:%M} {self._zone_name(at)}"

    def day(self, at: str | datetime) -> str:
        """The day of a moment of a result."""
        return f"{self._local(at):%Y-%m-%d}"

    def total(self, values: Sequence[str | int | Decimal]) -> Decimal:
        """Their sum."""
        return self._derive("sum", values, sum(map(Decimal, values), Decimal(0)))

    def difference(self, a: str | Decimal, b: str | Decimal) -> Decimal:
        """By how much they differ, whichever is larger."""
        return self._derive("difference", (a, b), abs(Decimal(a) - Decimal(b)))

    def product(self, a: int | str | Decimal, b: str | Decimal) -> Decimal:
        """a times b."""
        return self._derive("product", (a, b), Decimal(a) * Decimal(b))

    def quotient(self, a: str | int | Decimal, b: str | int | Decimal) -> Decimal:
        """a / b, rounded up to nanos: what an average call costs, at most."""
        return self._derive("quotient", (a, b), (Decimal(a) / Decimal(b)).quantize(_NANO, ROUND_CEILING))

    def priced(self, tokens: int | str | Decimal, per_1m: str | Decimal) -> Decimal:
        """What *tokens* cost at a price for a million of them, rounded up to nanos."""
        cost = (Decimal(tokens) * Decimal(per_1m) / 10**6).quantize(_NANO, ROUND_CEILING)
        return self._derive("price", (tokens, per_1m), cost)

    def whole(self, a: str | int | Decimal, b: str | int | Decimal) -> Decimal:
        """How many whole b are in a."""
        return self._derive("whole", (a, b), max(Decimal(0), Decimal(a) // Decimal(b)))

    def count(self, things: Sequence[object]) -> str:
        """How many there are in a list of a result."""
        self._derive("count", (), Decimal(len(things)))
        return self.number(len(things))

    def share(self, part: str | Decimal, whole: str | Decimal) -> str:
        """What part of the whole that is, in percent to a tenth; "" of nothing."""
        part, whole = self._known(part), self._known(whole)
        if not whole:
            return ""
        value = (part * 100 / whole).quantize(_TENTH, ROUND_HALF_EVEN)
        self.derived.append(Derived("share", (part, whole), value))
        self.known.percents.add(abs(value))
        return self.percent(value)

    def _derive(self, operation: str, inputs: Sequence[Any], value: Decimal) -> Decimal:
        exact = tuple(self._known(one) for one in inputs)
        self.derived.append(Derived(operation, exact, value))
        self.known.numbers.add(abs(value))
        return value

    def _known(self, value: int | str | Decimal) -> Decimal:
        exact = Decimal(value)
        assert abs(exact) in self.known.numbers, f"{value} is in no result"  # noqa: S101 - it would be invented
        with localcontext() as context:
            context.prec = _DIGITS
            return exact.normalize() + 0 if exact != exact.to_integral_value() else exact.quantize(Decimal(1))

    def _local(self, at: str | datetime) -> datetime:
        instant = datetime.fromisoformat(at) if isinstance(at, str) else at
        assert self.known.moments.issuperset(written(instant, self.zone)), f"{at} is in no result"  # noqa: S101
        return instant.astimezone(self.zone)

    def _zone_name(self, at: str | datetime) -> str:
        return self._local(at).tzname() or "UTC"


__all__ = ["Derived", "Evidence", "ToolError", "ToolResult"]
