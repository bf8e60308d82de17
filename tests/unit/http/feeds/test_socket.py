"""How a server that cannot refuse with a response tells the reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from budget_bus.http.admission import Keys
from budget_bus.http.feeds.alerts import FEED
from budget_bus.http.feeds.socket import FeedApp
from budget_bus.http.middleware import OwnPages
from budget_bus.http.parts import Parts


@pytest.mark.parametrize(
    ("headers", "query", "reason"),
    [
        pytest.param([], b"since=1", "invalid query", id="a wrong parameter"),
        pytest.param([(b"origin", b"http://" + b"x" * 200)], b"", "a page from http://xxx", id="cut to what fits"),
    ],
)
async def test_without_denial_responses_it_is_closed_with_the_reason(
    headers: list[tuple[bytes, bytes]], query: bytes, reason: str
) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    # Nothing of the parts is needed to be refused.
    app = FeedApp(FEED, cast(Parts, SimpleNamespace(keys=Keys(None))))
    await OwnPages(app, frozenset())(
        {"type": "websocket", "path": FEED.path, "headers": headers, "query_string": query}, receive, send
    )
    (closing,) = sent
    assert (closing["type"], closing["code"]) == ("websocket.close", 1008)
    assert closing["reason"].startswith(reason)
    assert len(closing["reason"].encode()) <= 123
