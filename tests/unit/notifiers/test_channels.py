"""The channels against real receivers on the loopback: what they send, and what each answer means."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from budget_bus.errors import BudgetError
from budget_bus.notifiers import posting, signature
from budget_bus.notifiers.attempts import Refused, TryAgain
from budget_bus.notifiers.mail import Mail, Server, server_of
from budget_bus.notifiers.posting import http_client
from budget_bus.notifiers.slack import Slack
from budget_bus.notifiers.webhook import Webhook
from tests.receivers import HttpReceiver, http_receiver, smtp_receiver
from tests.unit.notifiers.alerts import alert

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.fixture
async def http(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with http_client() as client:
        yield client


def webhook(http: httpx2.AsyncClient, receiver: HttpReceiver) -> Webhook:
    return Webhook(http, SecretStr(receiver.url), SECRET, clock=lambda: 1614265330.9)


def test_the_signature_is_that_of_the_reference_implementation() -> None:
    # The vector in the tests of github.com/standard-webhooks/standard-webhooks, "sign function works".
    signed = signature.headers(
        SECRET.get_secret_value(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signed == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


async def test_a_webhook_can_be_verified_by_its_receiver(http: httpx2.AsyncClient) -> None:
    async with http_receiver((204, "")) as receiver:
        await webhook(http, receiver).send(alert())
        posted = await receiver.next()
    said = posted.headers
    assert said["webhook-id"] == str(alert().alert_id)
    signed = f"{said['webhook-id']}.{said['webhook-timestamp']}.".encode() + posted.body
    key = base64.b64decode(SECRET.get_secret_value().removeprefix("whsec_"))
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert said["webhook-signature"] == f"v1,{digest}"
    assert said["content-type"] == "application/json"
    payload = json.loads(posted.body)
    assert (payload["type"], payload["timestamp"]) == ("budget.alert", "2026-11-02T09:15:30Z")
    assert payload["data"] == alert().model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        pytest.param({}, True, id="as it came"),
        pytest.param({"webhook-id": "another"}, False, id="another id"),
        pytest.param({"webhook-timestamp": "1614265330"}, False, id="another time"),
        pytest.param({"webhook-signature": "v1,AAAA"}, False, id="another signature"),
    ],
)
async def test_the_readme_s_receiver_accepts_ours_and_nothing_else(
    change: dict[str, str], accepted: bool, http: httpx2.AsyncClient
) -> None:
    section = README.partition("\n## Being told\n")[2]
    scope: dict[str, Any] = {}
    exec(section.partition("```python\n")[2].partition("```")[0], scope)  # noqa: S102 - it is our README
    async with http_receiver() as receiver:
        await Webhook(http, SecretStr(receiver.url), SECRET).send(alert())
        posted = await receiver.next()
    assert scope["verified"](posted.headers | change, posted.body, SECRET.get_secret_value()) is accepted
    assert not scope["verified"](posted.headers | change, posted.body + b" ", SECRET.get_secret_value())


async def test_slack_gets_its_text_and_shows_no_pages(http: httpx2.AsyncClient) -> None:
    async with http_receiver() as receiver:
        await Slack(http, SecretStr(receiver.url)).send(alert())
        posted = await receiver.next()
    message = json.loads(posted.body)
    assert message["text"].startswith(":warning: *Budget daily: cost limit approaching, 80 %*\nspent 8.02 of 10 USD")
    assert (message["unfurl_links"], message["unfurl_media"]) == (False, False)


async def test_a_redirect_is_not_followed(http: httpx2.AsyncClient) -> None:
    async with http_receiver() as other, http_receiver((307, f"Location: {other.url}\r\n")) as receiver:
        with pytest.raises(Refused, match="307"):
            await webhook(http, receiver).send(alert())
        assert other.posted.empty()


async def test_a_busy_receiver_says_when_to_come_back(http: httpx2.AsyncClient) -> None:
    async with http_receiver((429, "Retry-After: 7\r\n")) as receiver:
        with pytest.raises(TryAgain) as told:
            await webhook(http, receiver).send(alert())
    assert told.value.after_s == 7


async def test_a_receiver_that_is_not_there_or_silent_is_tried_again(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http_receiver() as receiver:
        channel = webhook(http, receiver)
        receiver.open.clear()
        monkeypatch.setattr(posting, "ATTEMPT_S", 0.05)
        with pytest.raises(TryAgain, match="no answer within"):
            await channel.send(alert())
    with pytest.raises(TryAgain, match="ConnectError"):
        await channel.send(alert())


async def test_no_secret_is_in_the_log_or_in_an_error(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[BudgetError] = []
    async with http_receiver((200, ""), (500, ""), (404, "")) as receiver:
        for channel in (Slack(http, SecretStr(receiver.url)), webhook(http, receiver), webhook(http, receiver)):
            try:
                await channel.send(alert())
            except BudgetError as error:
                errors.append(error)
    assert len(errors) == 2
    for text in (caplog.text, repr(errors), repr(SECRET)):
        assert "geheim" not in text
        assert "MfKQ9" not in text


async def test_without_the_silence_the_library_would_log_the_address(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx2")
    async with http_receiver() as receiver:
        await Slack(http, SecretStr(receiver.url)).send(alert())
    assert "geheim" in caplog.text


def mail(port: int, *, user: str = "", host: str = "127.0.0.1") -> Mail:
    return Mail(Server(host, port, False, user, SecretStr("geheim")), "budget@example.org", "ops@example.org")


async def test_a_mail_arrives() -> None:
    async with smtp_receiver() as receiver:
        await mail(receiver.port).send(alert())
        got = await receiver.next()
    assert (got["To"], got["Subject"]) == ("ops@example.org", "[warning] Budget daily: cost limit approaching, 80 %")
    assert "MAIL FROM" in " ".join(receiver.commands).upper()


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        pytest.param({"rcpt": ["451 later"]}, TryAgain, id="a greylisted recipient"),
        pytest.param({"rcpt": ["550 no such user"]}, Refused, id="a recipient that there is not"),
        pytest.param({"mail": ["421 busy"]}, TryAgain, id="a busy server"),
        pytest.param({"mail": ["553 not you"]}, Refused, id="a sender that is not wanted"),
        pytest.param({"data": ["452 disk full"]}, TryAgain, id="a full server"),
    ],
)
async def test_what_a_mail_server_answers(replies: dict[str, list[str]], outcome: type[BudgetError]) -> None:
    async with smtp_receiver(**replies) as receiver:
        with pytest.raises(outcome):
            await mail(receiver.port).send(alert())


async def test_a_mail_server_that_is_not_there_is_tried_again() -> None:
    async with smtp_receiver() as receiver:
        channel = mail(receiver.port)
    with pytest.raises(TryAgain, match="ConnectionRefusedError"):
        await channel.send(alert())


async def test_a_wrong_password_is_refused_and_not_repeated() -> None:
    async with smtp_receiver(ehlo=["250-here\r\n250 AUTH PLAIN"], auth=["535 not geheim"]) as receiver:
        with pytest.raises(Refused) as told:
            await mail(receiver.port, user="me").send(alert())
    assert str(told.value) == "the mail server answered 535"


async def test_a_password_is_not_told_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_bus.notifiers.mail._LOOPBACK", ())
    async with smtp_receiver(ehlo=["250-here\r\n250 AUTH PLAIN"]) as receiver:
        with pytest.raises(Refused, match="no encryption"):
            await mail(receiver.port, user="me").send(alert())
    assert not [command for command in receiver.commands if command.upper().startswith("AUTH")]


async def test_encryption_is_used_where_it_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_bus.notifiers.mail._LOOPBACK", ())
    async with smtp_receiver(ehlo=["250-here\r\n250 STARTTLS"], starttls=["454 not now"]) as receiver:
        with pytest.raises(TryAgain):
            await mail(receiver.port).send(alert())
    assert "STARTTLS" in receiver.commands
    assert not [command for command in receiver.commands if command.upper().startswith("MAIL")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for 127.0.0.1, and a client's that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(chain), "-days", "2", "-subj", "/CN=here"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    return server, ssl.create_default_context(cafile=str(chain))


@pytest.mark.parametrize("implicit", [True, False], ids=["from the first byte", "after STARTTLS"])
@pytest.mark.parametrize("trusted", [True, False], ids=["to whom it trusts", "to nobody else"])
async def test_the_password_goes_over_tls(
    implicit: bool,
    trusted: bool,
    certificate: tuple[ssl.SSLContext, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("budget_bus.notifiers.mail._LOOPBACK", ())
    server, client = certificate
    where = {"tls": server} if implicit else {"start_tls": server}
    hello = ["250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS"] * 2
    async with smtp_receiver(**where, ehlo=hello, auth=["235 welcome"]) as receiver:  # type: ignore[arg-type]
        who = Server("127.0.0.1", receiver.port, implicit, "me", SecretStr("geheim"))
        tls = client if trusted else ssl.create_default_context()
        channel = Mail(who, "budget@example.org", "ops@example.org", tls=tls)
        if trusted:
            await channel.send(alert())
            assert (await receiver.next())["To"] == "ops@example.org"
        else:
            with pytest.raises(TryAgain, match="SSLCertVerificationError"):
                await channel.send(alert())
    assert trusted is any(command.startswith("AUTH PLAIN ") for command in receiver.commands)
    assert ("STARTTLS" in receiver.commands) is not implicit


@pytest.mark.parametrize(
    ("url", "server"),
    [
        pytest.param("smtp://mail.example.org", ("mail.example.org", 587, False, "", ""), id="the usual port"),
        pytest.param("smtps://mail.example.org", ("mail.example.org", 465, True, "", ""), id="TLS from the start"),
        pytest.param("smtp://a%40b:c%2F@[::1]:25", ("::1", 25, False, "a@b", "c/"), id="an encoded user and password"),
    ],
)
def test_the_address_of_a_mail_server(url: str, server: tuple[str, int, bool, str, str]) -> None:
    read = server_of(SecretStr(url))
    assert (read.host, read.port, read.implicit_tls, read.user, read.password.get_secret_value()) == server


async def test_the_loop_goes_on_while_a_mail_server_is_slow() -> None:
    async with smtp_receiver() as receiver:
        sending = asyncio.create_task(mail(receiver.port).send(alert()))
        await receiver.next()  # served by this very loop
        await sending
    assert sending.exception() is None
