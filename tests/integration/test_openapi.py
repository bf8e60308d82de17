"""
The whole service behind a real server, as its OpenAPI document says, and against those who mean it harm.

BUDGET_TEST_SCHEMATHESIS_EXAMPLES sets how many requests are generated per operation: 5 unless said otherwise, and with
160 more than 5,000 in all.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from budget_bus.events.fields import MAX_BODY_BYTES
from budget_bus.http.server import gateway
from budget_bus.keys.file import add_key, make_key
from budget_bus.keys.key import KeyRole
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings

EXAMPLES = os.environ.get("BUDGET_TEST_SCHEMATHESIS_EXAMPLES", "5")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
KEY = "bdgt_a-key-of-the-test"
BEARER = {"Authorization": f"Bearer {KEY}"}
CALL = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "input_tokens": 10}
USED = {**CALL, "output_tokens": 10}


@pytest.fixture
async def address(kafka: str, settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    """A gateway that asks for keys, on a port of its own, with the settler and the decider behind it."""
    await apply_topics(settings)
    port, keys = free_port(), tmp_path / "keys.json"
    add_key(keys, make_key(KEY, name="test", roles=[KeyRole.ADMIN], components=[], created_at=datetime.now(UTC)))
    changed = {"host": "127.0.0.1", "port": port, "check_timeout_ms": 10_000, "api_keys_file": keys}
    served = settings.model_copy(update=changed)
    async with settler(settings), decider(settings), gateway(served):
        yield f"http://127.0.0.1:{port}"


async def test_every_answer_is_as_the_document_says(address: str, tmp_path: Path) -> None:
    # Not among the checks: that all that the schemas allow is accepted. JSON Schema cannot say, for one, that an
    # allocation's parent must exist.
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"), "run", f"{address}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", "fuzzing", "--max-examples", EXAMPLES,
        "--header", f"Authorization: Bearer {KEY}",
        "--generation-deterministic", "--request-timeout", "30", "--continue-on-failure",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-8000:]
    generated = re.search(rb"(\d+) generated", said)
    assert generated, said.decode()[-8000:]
    print(f"{int(generated[1]):,} requests")


def _deep(depth: int) -> bytes:
    return b'{"component":' + b"[" * depth + b"]" * depth + b"}"


def _with(**fields: Any) -> bytes:
    return json.dumps({**USED, **fields}).encode()


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "white space": b"  \n ",
    "not JSON": b"<xml/>",
    "half an object": b'{"component": "a',
    "two objects": b"{}{}",
    "a comment": b'{"component": "a" /* x */}',
    "NaN": b'{"input_tokens": NaN}',
    "infinity": b'{"input_tokens": Infinity}',
    "a trailing comma": b'{"component": "a",}',
    "not UTF-8": b'{"component": "\xff\xfe"}',
    "UTF-16": '{"component": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a surrogate pair": b'{"component": "\\ud800"}',
    "nested 500 deep": _deep(500),
    "nested 200,000 deep": _deep(200_000),
    "null": b"null",
    "a number": b"42",
    "a text": b'"hello"',
    "true": b"true",
    "a list of texts": b'["a"]',
    "a list of nulls": b"[null, null]",
    "a list of lists": b"[[[]]]",
    "too many events": json.dumps([USED] * 1001).encode(),
    "an object of objects": b'{"events": {"0": {}}}',
    "a NUL in a name": _with(component="a\0b"),
    "a control character": _with(model="gpt\x1b[2J"),
    "an empty name": _with(component=""),
    "a name of blanks": _with(component="   "),
    "a name of a megabyte": _with(component="a" * 1_000_000),
    "tokens below zero": _with(input_tokens=-1),
    "tokens as text": _with(input_tokens="10"),
    "half a token": _with(input_tokens=1.5),
    "tokens as a boolean": _with(input_tokens=True),
    "more tokens than there are": _with(input_tokens=10**30),
    "a number of a thousand digits": b'{"input_tokens": ' + b"9" * 1000 + b"}",
    "an exponent": b'{"input_tokens": 1e400}',
    "cached above input": _with(cache_read_input_tokens=11),
    "a time before computers": _with(occurred_at="0001-01-01T00:00:00Z"),
    "a time that is to come": _with(occurred_at="2199-01-01T00:00:00Z"),
    "an id that is none": _with(event_id="'; DROP TABLE ledger; --"),
    "a thousand tags": _with(tags={str(n): "x" for n in range(1000)}),
    "tags as a list": _with(tags=[1, 2]),
    "a cost below zero": _with(reported_cost={"amount": "-1", "currency": "USD"}),
    "a cost in no currency": _with(reported_cost={"amount": "1", "currency": "dollars"}),
}


async def test_hostile_bodies_are_problems_and_change_nothing(address: str) -> None:
    assert len(HOSTILE) >= 40
    async with httpx2.AsyncClient(base_url=address, timeout=30, headers=BEARER) as client:
        before = (await client.get("/api/usage/monthly")).json()["totals"]
        for path in ("/api/record?wait=true", "/api/check", "/api/limits", "/api/config/enforcement_level"):
            method = "PUT" if "config" in path else "POST"
            for what, body in HOSTILE.items():
                answer = await client.request(method, path, content=body)
                if path == "/api/record?wait=true" or answer.status_code >= 300:
                    assert answer.status_code in (400, 413, 422), (path, what, answer.text)
                    assert answer.headers["content-type"] == "application/problem+json", (path, what)
                    assert answer.json()["detail"], (path, what)
        assert (await client.get("/api/usage/monthly")).json()["totals"] == before
        assert (await client.get("/api/limits")).json()["items"] == []


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
async def test_a_body_of_a_gigabyte_is_refused_early(address: str, declared: bool) -> None:
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"Content-Length: {2**30}" if declared else "Transfer-Encoding: chunked"
    writer.write(f"POST /api/record HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n{head}\r\n\r\n".encode())
    piece = b" " * 65_536
    framed = piece if declared else b"10000\r\n" + piece + b"\r\n"
    answered = asyncio.create_task(reader.readuntil(b"\r\n"))
    sent = 0
    with closing(writer):
        async with asyncio.timeout(30):
            while not answered.done() and sent < 2**30:
                writer.write(framed)
                await writer.drain()
                sent += len(piece)
                await asyncio.sleep(0)
            assert (await answered).startswith(b"HTTP/1.1 413 ")
    # What lies in the buffers of the sockets was sent before the answer could be seen.
    assert sent < MAX_BODY_BYTES + 16 * 2**20
