"""Slack, or what takes its incoming webhooks, such as Mattermost."""

from __future__ import annotations

import httpx2
from pydantic import SecretStr
from pydantic_core import to_json

from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers.posting import post
from budget_bus.notifiers.wording import details, title

_MARKS = {"info": ":information_source:", "warning": ":warning:", "error": ":rotating_light:"}


class Slack:
    """An incoming webhook; its address is its secret."""

    name = "slack"

    def __init__(self, http: httpx2.AsyncClient, url: SecretStr) -> None:
        self._http, self._url = http, url

    async def send(self, alert: BudgetAlert) -> None:
        """
        Post the alert once.

        Raises:
            TryAgain, Refused: Slack did not take it.
        """
        # A link in a budget's name must not bring its page into the channel.
        message = {"text": text(alert), "unfurl_links": False, "unfurl_media": False}
        await post(self._http, self._url.get_secret_value(), to_json(message), {})


def text(alert: BudgetAlert) -> str:
    """The alert in Slack's markup, its title in bold."""
    heading = escape(title(alert)).replace("*", "")  # one in a name would end the bold
    return "\n".join([f"{_MARKS[alert.severity]} *{heading}*", *map(escape, details(alert))])


def escape(plain: str) -> str:
    """
    Text that Slack shows as it is (https://docs.slack.dev/messaging/formatting-message-text, "Escaping text").

    `<` begins Slack's mentions and links; others, such as Mattermost, take a bare `@channel`, which the zero-width
    space after the sign breaks.
    """
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("@", "@\u200b")
