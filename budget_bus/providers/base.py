"""BaseProvider: all that the service asks about one provider. An adapter overrides what differs, mostly very little."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

from budget_bus.money import PicosPerToken
from budget_bus.policy.pricing import Price, PriceStatus, Rate
from budget_bus.providers.extracted import Extracted
from budget_bus.providers.normaliser import Rules, normalise
from budget_bus.providers.shapes import CHAT, RESPONSES, Shape
from budget_bus.providers.vocabularies import Vocabulary, named_vocabulary

Tier = Literal["local_lightweight", "local_midweight", "remote_heavyweight"]

LIGHTWEIGHT_BELOW_B: Final = 13.0
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z0-9])")


class BaseProvider:
    """
    One provider. The defaults are those of a remote one with OpenAI's wire format.

    Its methods are called from any thread, often, and on the way of every event: they must be quick, must not use the
    network, and must answer the same question in the same way. One that raises is answered for by the default here.
    """

    name: str
    """The name under which it is stored: lower case, single spaces, never changed after the first event."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that callers use. Case, spaces, dots, dashes and underscores do not matter."""
    book_id: ClassVar[str | None] = None
    """Its id in the bundled price data (genai-prices), where that is not its name."""
    shapes: ClassVar[tuple[Shape, ...]] = (CHAT, RESPONSES)
    """The forms that its responses come in; the first one that fits is read."""
    unique_ids: ClassVar[bool] = False
    """Whether each response has an id of its own, by which one that is recorded twice is found out."""
    reasoning_outside: ClassVar[bool] = False
    """Whether reasoning tokens come on top of the completion's where the response's total does not say."""

    def price(self, model: str, at: datetime, service_tier: str) -> Price | None:
        """
        A price of its own at the aware instant *at*, or None to have the price book asked.

        Answers are remembered per quarter of an hour, so a price can only change on one.
        """
        return None

    def vocabulary(self, model: str) -> Vocabulary:
        """What to count a text's tokens with."""
        return named_vocabulary(model)

    def is_local(self, model: str) -> bool:
        """Whether a call runs on the platform's own machines."""
        return False

    def tier(self, model: str) -> Tier:
        """
        The platform's tier of a model: all that does not run locally is remote_heavyweight.

        A local model is local_midweight from 13 billion parameters on, counted by its name: the largest `<n>b` in it,
        and `8x7b` as 56. Below that, or without a size in the name, it is local_lightweight.
        """
        if not self.is_local(model):
            return "remote_heavyweight"
        sizes = [int(experts or 1) * float(billions) for experts, billions in _PARAMETERS.findall(model.lower())]
        return "local_midweight" if max(sizes, default=0.0) >= LIGHTWEIGHT_BELOW_B else "local_lightweight"

    def reported_cost(self, usage: Mapping[str, Any]) -> Decimal | None:
        """What the response says that the call cost, in USD; None if it does not say."""
        return None

    def usage(self, raw: Mapping[str, Any] | Iterable[Any], model: str | None = None) -> Extracted:
        """
        What a call used, from its raw response: the JSON object, or all chunks of a stream in their order.

        *model* is the one that was asked for; it counts the text of a stream that broke off.

        Raises:
            Rejected: names the field that is missing or impossible.
        """
        rules = Rules(self.reasoning_outside, self.vocabulary, self.reported_cost)
        return normalise(raw, self.shapes, rules, asked_model=model)


def free_price(source: str) -> Price:
    """A price that is really zero, which is not the same as an unknown one."""
    nothing = Rate(PicosPerToken(0))
    return Price(input=nothing, output=nothing, source=source, status=PriceStatus.FREE)
