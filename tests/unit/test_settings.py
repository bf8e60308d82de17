"""Settings: the names of the documents work as written, and a wrong one is one line that names it and the fix."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from budget_bus.errors import ConfigError
from budget_bus.settings import load_settings


def _none(tmp_path: Path) -> Path:
    return tmp_path / "no-such-file"


def test_the_names_of_the_documents_work_as_written(tmp_path: Path) -> None:
    environ = {
        "BUDGET_PORT": "9000",
        "BUDGET_ENFORCEMENT_LEVEL": "HARD_LIMIT",
        "DAILY_BUDGET_LIMIT": "50.0",
        "RHETOR_ALLOCATION": "30",
        "OTHER_ALLOCATION": "25",
    }
    settings = load_settings(environ, env_file=_none(tmp_path))
    assert (settings.port, settings.enforcement_level, settings.daily_limit) == (9000, "HARD_LIMIT", "50.0")
    assert settings.allocations == {"RHETOR": Decimal(30), "OTHER": Decimal(25)}


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env.budget"
    file.write_text("BUDGET_PORT=9001  # a comment\nDAILY_BUDGET_LIMIT=7\n")
    settings = load_settings({"BUDGET_PORT": "9002"}, env_file=file)
    assert (settings.port, settings.daily_limit) == (9002, "7")


def test_only_what_is_handed_over_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGET_PORT", "9003")
    assert load_settings({}, env_file=_none(tmp_path)).port == 8013


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param({"BUDGET_PORT": "x"}, "BUDGET_PORT=x", id="a port that is no number"),
        pytest.param({"BUDGET_PORT": "70000"}, "BUDGET_PORT=70000", id="a port that there is not"),
        pytest.param({"BUDGET_DEFAULT_CURRENCY": "usd"}, "BUDGET_DEFAULT_CURRENCY", id="a currency in small letters"),
        pytest.param({"BUDGET_TIMEZONE": "Mars/X"}, "BUDGET_TIMEZONE", id="a time zone that there is not"),
        pytest.param({"BUDGET_ENFORCEMENT_LEVEL": "hard"}, "'HARD_LIMIT'", id="a policy, with those there are"),
        pytest.param({"DAILY_BUDGET_LIMIT": "-1"}, "DAILY_BUDGET_LIMIT=-1", id="a negative amount"),
        pytest.param({"DAILY_BUDGET_LIMIT": "lots"}, "write for example 12.50", id="an amount that is none"),
        pytest.param({"RHETOR_ALLOCATION": "130"}, "RHETOR_ALLOCATION", id="a part larger than the whole"),
        pytest.param({"RHETOR_ALLOCATION": "33.33333"}, "at most 4 decimals", id="a part too fine to be kept"),
        pytest.param(
            {"A_ALLOCATION": "60", "B_ALLOCATION": "50"}, "must not pass 100", id="parts larger than the whole"
        ),
        pytest.param({"BUDGET_UNPRICED": "fallback"}, "BUDGET_FALLBACK_PRICE_PER_1M", id="a fallback without a price"),
        pytest.param(
            {"BUDGET_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "BUDGET_KAFKA_SASL_USERNAME", id="SASL without a user"
        ),
        pytest.param(
            {"BUDGET_NOTIFY_SLACK_URL": "hooks"}, "BUDGET_NOTIFY_SLACK_URL: is not", id="an address without //"
        ),
        pytest.param({"BUDGET_NOTIFY_SLACK_URL": "ftp://x"}, "https://example.org", id="an address that is not HTTP"),
        pytest.param({"BUDGET_NOTIFY_SLACK_URL": "https://x:0x"}, "is not", id="an address with a port that is none"),
        pytest.param(
            {"BUDGET_NOTIFY_WEBHOOK_URL": "https://x"}, "BUDGET_NOTIFY_WEBHOOK_SECRET", id="a webhook without a secret"
        ),
        pytest.param({"BUDGET_NOTIFY_WEBHOOK_SECRET": "abc"}, "openssl rand", id="a secret that is none"),
        pytest.param({"BUDGET_NOTIFY_WEBHOOK_SECRET": "whsec_YWJj"}, "24 to 64", id="a secret that is too short"),
        pytest.param({"BUDGET_NOTIFY_SMTP_URL": "mail:25"}, "smtp://user", id="a mail server that is no address"),
        pytest.param({"BUDGET_NOTIFY_SMTP_URL": "smtp://u:a/b@x"}, "is not", id="a slash in a password"),
        pytest.param({"BUDGET_NOTIFY_SMTP_URL": "smtp://x/y"}, "%2F", id="a mail server with a path"),
        pytest.param({"BUDGET_NOTIFY_SMTP_URL": "smtp://x"}, "BUDGET_NOTIFY_EMAIL_TO", id="a mail server for nobody"),
        pytest.param({"BUDGET_NOTIFY_EMAIL_TO": "ops"}, "ann@example.org", id="an e-mail address that is none"),
        pytest.param({"BUDGET_NOTIFY_EMAIL_TO": "a@b,, c@d"}, "BUDGET_NOTIFY_EMAIL_TO", id="an empty one between two"),
        pytest.param({"BUDGET_API_KEY": "two words"}, "BUDGET_API_KEY: is not a key", id="a key with a blank"),
        pytest.param({"BUDGET_NOTIFY_MIN_SEVERITY": "high"}, "'warning'", id="a severity, with those there are"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(environ: dict[str, str], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        load_settings(environ, env_file=_none(tmp_path))
    assert named in str(told.value)
    assert "\n" not in str(told.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        load_settings({"BUDGET_PORT": "x", "BUDGET_HOLD_TTL_S": "0"}, env_file=_none(tmp_path))
    assert "BUDGET_PORT" in str(told.value)
    assert "BUDGET_HOLD_TTL_S" in str(told.value)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    environ = {
        "BUDGET_DATABASE_URL": "postgresql://u:geheim@db/b",
        "BUDGET_KAFKA_SASL_PASSWORD": "geheim",
        "BUDGET_NOTIFY_SLACK_URL": "https://hooks.example.org/geheim",
        "BUDGET_API_KEY": "bdgt_geheim",
    }
    assert "geheim" not in repr(load_settings(environ, env_file=_none(tmp_path)))


@pytest.mark.parametrize(
    "name",
    [
        "BUDGET_NOTIFY_WEBHOOK_URL",
        "BUDGET_NOTIFY_WEBHOOK_SECRET",
        "BUDGET_NOTIFY_SLACK_URL",
        "BUDGET_NOTIFY_SMTP_URL",
        "BUDGET_API_KEY",
    ],
)
def test_a_secret_is_not_shown_when_it_is_wrong(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=name) as told:
        load_settings({name: "noch geheim"}, env_file=_none(tmp_path))
    assert "geheim" not in str(told.value)
