"""What the commands send to the gateway for a key, and what they say when it does not do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest

from budget_bus.cli import exit_code
from budget_bus.cli.gateway import ask
from budget_bus.errors import Forbidden, Rejected, Unauthorized

Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Has *answer* stand in for the gateway."""
    monkeypatch.chdir(tmp_path)

    def by(answer: Answer) -> None:
        monkeypatch.setattr(httpx2, "Client", partial(httpx2.Client, transport=httpx2.MockTransport(answer)))

    return by


def _told(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json=[request.headers.get("authorization"), request.url.host])


def test_the_key_of_the_environment_or_the_file_is_sent(
    answered: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(_told)
    assert ask("GET", "/x") == (200, [None, "127.0.0.1"])
    Path(".env.budget").write_text("BUDGET_API_KEY=bdgt_file\n")
    assert ask("GET", "/x")[1][0] == "Bearer bdgt_file"
    monkeypatch.setenv("BUDGET_API_KEY", " bdgt_environment\n")
    assert ask("GET", "/x")[1][0] == "Bearer bdgt_environment"


def test_a_gateway_that_listens_everywhere_is_called_on_this_machine(
    answered: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(_told)
    monkeypatch.setenv("BUDGET_HOST", "0.0.0.0")  # noqa: S104  # a setting, not a socket
    assert ask("GET", "/x")[1][1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, Unauthorized, "the reason; set BUDGET_API_KEY to a key of `budget keys add`"),
        (403, Forbidden, "the reason; BUDGET_API_KEY says whose key is sent"),
    ],
)
def test_a_key_that_does_not_do_is_said_with_the_setting(
    answered: Callable[[Answer], None], status: int, error: type[Rejected], says: str
) -> None:
    answered(lambda _request: httpx2.Response(status, json={"detail": "the reason"}))
    with pytest.raises(error) as told:
        ask("GET", "/x")
    assert str(told.value) == says
    assert exit_code(told.value) == 1
