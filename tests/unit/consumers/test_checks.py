"""Where an answer goes: hostile headers cost nobody an answer, and never send it to a partition nobody named."""

from __future__ import annotations

from uuid import UUID

import pytest
from aiokafka import ConsumerRecord

from budget_bus.consumers.questions import Question, Reply
from budget_bus.events.checks import CheckRequested
from budget_bus.policy.scope import Call

REQUEST_ID = UUID("0198a8f0-0000-7000-8000-000000000001")
Headers = tuple[tuple[str, bytes | None], ...]


def question(headers: Headers) -> Question:
    record = ConsumerRecord("check.requested", 0, 7, 0, 0, b"rhetor", b"{}", None, 6, 2, headers)
    asked = CheckRequested(
        request_id=REQUEST_ID, component="rhetor", provider="openai", model="gpt-4o", estimated_tokens=1
    )
    return Question(record, asked, asked.digest(), Call("rhetor", "openai", "gpt-4o", "remote_heavyweight"))


def reply_to(*headers: tuple[str, bytes | None]) -> Reply:
    return question(headers).reply(b"{}")


def test_an_answer_goes_where_its_question_says() -> None:
    reply = reply_to(("correlation_id", b"c-1"), ("reply_topic", b"answers.of.rhetor"), ("reply_partition", b"12"))
    assert (reply.topic, reply.partition) == ("answers.of.rhetor", 12)
    assert reply.headers == [("correlation_id", b"c-1")]
    assert (reply.key, reply.value) == (str(REQUEST_ID).encode(), b"{}")


def test_without_headers_it_goes_to_the_default_topic_by_its_request_id() -> None:
    assert reply_to() == Reply(
        "", None, str(REQUEST_ID).encode(), b"{}", [("correlation_id", str(REQUEST_ID).encode())]
    )


@pytest.mark.parametrize(
    ("raw", "partition"),
    [
        pytest.param(b"0", 0, id="the first partition"),
        pytest.param(b"999999", 999_999, id="six digits"),
        pytest.param(b"0003", 3, id="leading zeros"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"-1", None, id="below zero"),
        pytest.param(b"+1", None, id="a sign"),
        pytest.param(b" 1", None, id="a space"),
        pytest.param(b"1_0", None, id="an underscore, which int() would take"),
        pytest.param(b"1.0", None, id="a fraction"),
        pytest.param(b"0x1", None, id="another base"),
        pytest.param("٣".encode(), None, id="an Arabic digit, which int() would take"),
        pytest.param("²".encode(), None, id="a superscript, which is a digit and int() would not take"),
        pytest.param(b"1234567890", None, id="ten digits"),
        pytest.param(b"9" * 5000, None, id="more digits than int() takes"),
        pytest.param(b"\x00\x00\x00\x03", None, id="a binary number"),
        pytest.param(b"\xff", None, id="not UTF-8"),
        pytest.param(None, None, id="null"),
    ],
)
def test_a_partition_is_text_digits_or_none(raw: bytes | None, partition: int | None) -> None:
    assert reply_to(("reply_partition", raw)).partition == partition


@pytest.mark.parametrize("raw", [pytest.param(None, id="null"), pytest.param(b"\xff\xfe", id="not UTF-8")])
@pytest.mark.parametrize("name", ["correlation_id", "reply_topic", "reply_partition", "traceparent"])
def test_a_header_that_is_null_or_not_utf_8_is_alone_ignored(name: str, raw: bytes | None) -> None:
    good: dict[str, bytes | None] = {"correlation_id": b"c-1", "reply_topic": b"answers", "reply_partition": b"2"}
    reply = reply_to(*{**good, name: raw}.items())
    fallback = {"correlation_id": str(REQUEST_ID), "reply_topic": "", "reply_partition": None}
    assert reply.headers == [
        ("correlation_id", b"c-1" if name != "correlation_id" else fallback["correlation_id"].encode())  # type: ignore[union-attr]
    ]
    assert reply.topic == ("answers" if name != "reply_topic" else fallback["reply_topic"])
    assert reply.partition == (2 if name != "reply_partition" else fallback["reply_partition"])


def test_of_a_repeated_header_the_last_counts() -> None:
    assert reply_to(("reply_partition", b"1"), ("reply_partition", b"2")).partition == 2


def test_a_repeated_header_that_is_unreadable_leaves_the_one_before() -> None:
    assert reply_to(("correlation_id", b"c-1"), ("correlation_id", b"\xff")).headers == [("correlation_id", b"c-1")]


def test_a_correlation_id_in_any_script_comes_back_as_it_was() -> None:
    assert reply_to(("correlation_id", "frage-ß-٣".encode())).headers == [("correlation_id", "frage-ß-٣".encode())]


def test_an_error_is_marked_beside_the_correlation_id() -> None:
    reply = question((("correlation_id", b"c-1"),)).reply(b"{}", error="conflict")
    assert reply.headers == [("correlation_id", b"c-1"), ("error", b"conflict")]
