"""E-mail over SMTP, by the standard library in a thread."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers.attempts import Refused, TryAgain
from budget_bus.notifiers.posting import ATTEMPT_S
from budget_bus.notifiers.wording import details, title

log = structlog.get_logger()

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Server:
    """Where mail is handed in. `implicit_tls` is `smtps://`: encrypted from the first byte."""

    host: str
    port: int
    implicit_tls: bool
    user: str
    password: SecretStr


def server_of(url: SecretStr) -> Server:
    """Read `smtp://user:password@host:port`, which the settings have checked; percent-encoding is undone."""
    parts = urlsplit(url.get_secret_value())
    implicit = parts.scheme == "smtps"
    return Server(
        parts.hostname or "",
        parts.port or (465 if implicit else 587),
        implicit,
        unquote(parts.username or ""),
        SecretStr(unquote(parts.password or "")),
    )


class Mail:
    """One mail for all recipients. Its Message-ID is made of the `alert_id`, so that mailboxes know a repeat."""

    name = "email"

    def __init__(self, server: Server, sender: str, recipients: str, *, tls: ssl.SSLContext | None = None) -> None:
        self._server, self._sender, self._recipients = server, sender, recipients
        self._tls = tls or ssl.create_default_context()

    async def send(self, alert: BudgetAlert) -> None:
        """
        Hand the mail in once.

        Raises:
            TryAgain, Refused: the server did not take it for any recipient.
        """
        try:
            refused = await asyncio.to_thread(self._hand_in, message(alert, self._sender, self._recipients))
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            _raise(min(codes), f"the mail server refused every recipient: {codes}")
        except smtplib.SMTPResponseException as error:
            # Its text may repeat what we said, and we said the password.
            _raise(error.smtp_code, f"the mail server answered {error.smtp_code}")
        except smtplib.SMTPNotSupportedError:
            raise Refused("the mail server lacks what this mail needs") from None
        except (smtplib.SMTPException, OSError) as error:
            raise TryAgain(f"no answer: {type(error).__name__}") from None
        if refused:
            # Sending again would send again to those who have it.
            log.error("the mail server refused some recipients", alert_id=str(alert.alert_id), refused=refused)

    def _hand_in(self, mail: EmailMessage) -> int:
        server = self._server
        if server.implicit_tls:
            connected: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=ATTEMPT_S, context=self._tls)
        else:
            connected = smtplib.SMTP(server.host, server.port, timeout=ATTEMPT_S)
        with connected as smtp:
            smtp.ehlo_or_helo_if_needed()
            local = server.host in _LOOPBACK
            safe = server.implicit_tls
            if not safe and not local and smtp.has_extn("starttls"):
                smtp.starttls(context=self._tls)
                safe = True
            if server.user:
                # A server, or somebody in between, that leaves STARTTLS out must not be told the password.
                if not safe and not local:
                    raise Refused("the mail server offers no encryption, so it is not told the password")
                smtp.login(server.user, server.password.get_secret_value())
            return len(smtp.send_message(mail))


def message(alert: BudgetAlert, sender: str, recipients: str) -> EmailMessage:
    """The mail, in plain text only."""
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, recipients
    mail["Subject"] = f"[{alert.severity}] {title(alert)}"
    mail["Date"] = format_datetime(alert.raised_at)
    mail["Message-ID"] = f"<{alert.alert_id}@budget-bus.invalid>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail.set_content("\n".join([title(alert), "", *details(alert)]) + "\n")
    return mail


def _raise(code: int, reason: str) -> NoReturn:
    # RFC 5321, 4.2.1: 4yz is transient, 5yz permanent.
    raise (TryAgain if 400 <= code < 500 else Refused)(reason) from None
