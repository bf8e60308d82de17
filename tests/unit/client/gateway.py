"""A gateway for the clients' tests: it answers on a real port as scripted, and remembers what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from budget_bus.local.ports import free_port

Answer = tuple[int, dict[str, str], Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; `authorization` is the header's value."""

    path: str
    authorization: str | None
    body: Any


def accepting(asked: Asked) -> Answer:
    """What the gateway answers when all is well and nobody waits for the settler."""
    if asked.path == "/api/check":
        info = {"request_id": asked.body["request_id"], "allowed": True, "action": "allow", "hold": {"amount": "1"}}
        return 200, {}, info
    events = asked.body if isinstance(asked.body, list) else [asked.body]
    return 202, {}, {"accepted": len(events), "event_ids": [event.get("event_id") for event in events]}


@dataclass(slots=True)
class Gateway:
    """*answer* says what to answer to each request."""

    port: int
    answer: Callable[[Asked], Answer] = accepting
    asked: list[Asked] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events that were sent, in their order."""
        found: list[dict[str, Any]] = []
        for one in self.asked:
            if one.path.startswith("/api/record"):
                found += one.body if isinstance(one.body, list) else [one.body]
        return found


@contextmanager
def serving(answer: Callable[[Asked], Answer] = accepting, port: int | None = None) -> Iterator[Gateway]:
    """A gateway that listens, until its body is left."""
    gateway = Gateway(port or free_port(), answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            asked = Asked(self.path, self.headers.get("Authorization"), json.loads(raw))
            gateway.asked.append(asked)
            status, headers, body = gateway.answer(asked)
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", gateway.port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
