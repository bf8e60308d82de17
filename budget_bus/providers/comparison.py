"""Two sources of prices beside each other: where they agree, where not, and by which rule a difference is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Final, NamedTuple

from budget_bus.money import PicosPerToken
from budget_bus.policy.pricing import Price, PriceStatus, Rate
from budget_bus.providers.book import find_entry
from budget_bus.providers.own import RATES
from budget_bus.providers.second_table import SecondPrice

TOLERANCE_PERCENT: Final = 1
SERVICE_TIERS: Final = ("batch", "flex", "priority")

# Provider, model, instant, service tier -> price; `PriceBook.price` is one.
PriceOf = Callable[[str, str, datetime, str], Price | None]


class Compared(NamedTuple):
    """One token class of one model in both sources, in picos per token. *key* is the second source's own name."""

    provider: str
    model: str
    key: str
    token_class: str
    ours: PicosPerToken
    theirs: PicosPerToken
    same_name: bool = True
    regional: bool = False
    ends: date | None = None

    @property
    def exact(self) -> bool:
        return self.ours == self.theirs

    @property
    def agrees(self) -> bool:
        return within(self.ours, self.theirs)


def within(one: int, other: int, percent: int = TOLERANCE_PERCENT) -> bool:
    """Whether two rates differ by at most *percent* of the larger one. Zero agrees only with zero."""
    return abs(one - other) * 100 <= max(one, other) * percent and (one == 0) == (other == 0)


def figures_of(price: Price, service_tier: str = "standard") -> dict[str, PicosPerToken]:
    """
    A price's own rates by class: "input", "batch output", "input above 200k". Classes that it does not list are not
    there, for what a class without a rate is charged is our rule and not the source's figure.
    """
    prefix = "" if service_tier == "standard" else f"{service_tier} "
    figures = {}
    for name in RATES:
        rate: Rate | None = getattr(price, name)
        if rate is None:
            continue
        figures[prefix + name] = rate.base
        for more_than, picos in rate.tiers:
            figures[f"{prefix}{name} above {round(more_than / 1000)}k"] = picos
    return figures


def compare(second: Iterable[SecondPrice], price_of: PriceOf, at: datetime) -> Iterator[Compared]:
    """
    Every token class that both sources list, at the aware instant *at*, for each row of *second* that *price_of* knows.

    A row is looked up by its name as a call would be. Its name may be an alias of ours: then `same_name` is False and
    `model` is still the row's name. A service tier counts only where ours has rates of its own for it. Models that are
    free on purpose are compared too.
    """
    for row in second:
        ours = _ours(row, price_of, at)
        for token_class in sorted(ours.keys() & row.figures.keys()):
            yield Compared(
                row.provider,
                row.model,
                row.key,
                token_class,
                ours[token_class],
                row.figures[token_class],
                same_name=is_same_name(row.provider, row.model),
                regional=row.regional,
                ends=row.ends,
            )


def _ours(row: SecondPrice, price_of: PriceOf, at: datetime) -> dict[str, PicosPerToken]:
    standard = price_of(row.provider, row.model, at, "standard")
    if standard is None:
        return {}
    figures = figures_of(standard)
    for tier in SERVICE_TIERS:
        price = price_of(row.provider, row.model, at, tier)
        if price is not None and price.status is PriceStatus.PRICED:
            figures |= figures_of(price, tier)
    return figures


def is_same_name(provider: str, model: str) -> bool:
    """Whether the price data has a row of this very name, and did not find it as a dated or shortened one."""
    entry = find_entry(provider, model)
    return entry is not None and entry.own and entry.model.id.lower() == model.lower()


def told_once(figures: Iterable[Compared]) -> list[Compared]:
    """Without repeats: the second source has many a model under two keys, and equal figures count once."""
    return list({(one.provider, one.model, one.token_class, one.theirs): one for one in figures}.values())


class Share(NamedTuple):
    """How many figures were compared, agree within the tolerance, and are equal to the pico."""

    compared: int
    agree: int
    exact: int

    @property
    def basis_points(self) -> int:
        """Agreement in hundredths of a percent, rounded down so that 97.00 is never said of less."""
        return self.agree * 10_000 // self.compared if self.compared else 0


def share_of(figures: Iterable[Compared]) -> Share:
    """The share of agreement among *figures*."""
    found = list(figures)
    return Share(len(found), sum(one.agrees for one in found), sum(one.exact for one in found))


def shares_by_provider(figures: Iterable[Compared]) -> Mapping[str, Share]:
    """The share of each provider, in order of names."""
    by: dict[str, list[Compared]] = {}
    for one in figures:
        by.setdefault(one.provider, []).append(one)
    return {provider: share_of(by[provider]) for provider in sorted(by)}
