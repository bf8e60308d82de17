"""uvicorn's HTTP protocol with an end to its patience: a client that never completes its headers is let go."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S: Final = 15.0


class PatientProtocol(HttpToolsProtocol):
    """
    Closes a connection whose request head is not complete `headers_s` after it began, or that never begins one.

    uvicorn itself only limits how long a connection rests between requests. A body has its own limit of time, in
    `budget_bus.http.body`.
    """

    headers_s = HEADERS_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """As uvicorn; the first head is awaited from here on."""
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        """As uvicorn; a further head is awaited from here on."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """As uvicorn; the head is there."""
        self._forget_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn."""
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.headers_s, self.transport.close)

    def _forget_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
