"""An alert in words: what people need is there, and a name does nothing to its reader."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.notifiers import slack
from budget_bus.notifiers.mail import message
from budget_bus.notifiers.wording import clean, details, title
from tests.unit.notifiers.alerts import alert

ALL_TEXT = st.text(st.characters(codec="utf-8"), max_size=300)


def test_the_title_and_the_lines() -> None:
    told = alert()
    assert title(told) == "Budget daily: cost limit approaching, 80 %"
    assert details(told) == [
        "spent 8.02 of 10 USD, 0.4 USD held",
        "window: daily, until 2026-11-03 00:00:00 UTC",
        "scope: component=rhetor",
        "alert 7f3c2f2e-5a0e-4b1c-9a51-0c8f1f0f5b11, warning, raised 2026-11-02 09:15:30 UTC",
    ]


def test_what_is_not_there_is_not_said() -> None:
    told = alert(unit="tokens", currency=None, held="0", window_end=None, scope={}, threshold_percent=0, type="a_b")
    assert title(told) == "Budget daily: a b"
    assert details(told)[:3] == ["spent 8.02 of 10 tokens", "window: daily, without an end", "scope: everything"]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param("a\r\nBcc: x@y", "a Bcc: x@y", id="a new line, which would begin a header"),
        pytest.param("a\u2028b\x85c\x0bd", "a b c d", id="what Python and browsers take for new lines"),
        pytest.param("a\u202egpj.exe", "a gpj.exe", id="a turned direction"),
        pytest.param("a\x1b[2Jb", "a [2Jb", id="an escape sequence of terminals"),
        pytest.param("x" * 300, "x" * 199 + "…", id="a name longer than a line"),
    ],
)
def test_cleaned(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("<!channel>", "&lt;!channel&gt;", id="a mention of everybody"),
        pytest.param("<@U123>", "&lt;@\u200bU123&gt;", id="a mention of one"),
        pytest.param("@all", "@\u200ball", id="a bare mention, as Mattermost takes it"),
        pytest.param("<https://evil|here>", "&lt;https://evil|here&gt;", id="a link with another text"),
        pytest.param("a&lt;b", "a&amp;lt;b", id="what looks escaped already"),
        pytest.param("a*b", "ab", id="a star, which would end the bold"),
    ],
)
def test_slack_shows_names_as_they_are(name: str, shown: str) -> None:
    assert f"*Budget {shown}: cost limit approaching, 80 %*\n" in slack.text(alert(name=name))
    assert "scope: component=" + shown.replace("ab", "a*b") in slack.text(alert(scope={"component": name}))


@given(ALL_TEXT)
def test_no_name_brings_markup_or_lines_into_slack(name: str) -> None:
    text = slack.text(alert(name=name, scope={"user": name}))
    assert not {"<", ">"} & set(text)
    assert len(text.splitlines()) == 5


@given(ALL_TEXT)
def test_no_name_brings_headers_into_a_mail(name: str) -> None:
    plain = message(alert(), "budget@example.org", "ops@example.org")
    mail = message_from_bytes(
        message(alert(name=name, scope={"user": name}), "budget@example.org", "ops@example.org").as_bytes(),
        policy=default,
    )
    assert mail.keys() == plain.keys() or set(mail.keys()) - set(plain.keys()) <= {"Content-Transfer-Encoding"}
    assert mail["To"] == "ops@example.org"


def test_a_mail() -> None:
    mail = message(alert(name="Büro"), "Budget <budget@example.org>", "ops@example.org, Ann <ann@example.org>")
    assert mail["Subject"] == "[warning] Budget Büro: cost limit approaching, 80 %"
    assert mail["Message-ID"] == "<7f3c2f2e-5a0e-4b1c-9a51-0c8f1f0f5b11@budget-bus.invalid>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "spent 8.02 of 10 USD" in mail.get_content()
