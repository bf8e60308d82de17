"""
Settings: from the environment, then `.env.budget` in the working directory; validated together, frozen.

Every name, default and meaning is listed in README.md. Nothing here is read at import.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from budget_bus.errors import ConfigError, Rejected
from budget_bus.money import check_currency, parse_amount

ENV_FILE = ".env.budget"
# Where genai-prices publishes its data (its module update_prices has the same as DEFAULT_UPDATE_URL).
DEFAULT_PRICE_URL = (
    "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
)
_ALLOCATION = re.compile(r"([A-Z][A-Z0-9_]*)_ALLOCATION")


def _amount(text: str) -> str:
    try:
        parse_amount(text)
    except Rejected as error:
        raise ValueError(error.errors[0].message) from None
    return text


def _currency(code: str) -> str:
    try:
        return check_currency(code)
    except Rejected as error:
        raise ValueError(error.errors[0].message) from None


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Berlin") from None
    return name


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable():
        raise ValueError("must be an address such as https://prices.example/data.json")
    return text


def _url(value: SecretStr, schemes: tuple[str, ...], example: str) -> SplitResult:
    # The address is often a secret itself, so no message repeats it.
    try:
        parts = urlsplit(value.get_secret_value())
        good = parts.scheme in schemes and parts.hostname and parts.port != 0 and value.get_secret_value().isprintable()
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"is not an address such as {example}")
    return parts


def _http_url(value: SecretStr) -> SecretStr:
    _url(value, ("http", "https"), "https://example.org/hook")
    return value


def _smtp_url(value: SecretStr) -> SecretStr:
    parts = _url(value, ("smtp", "smtps"), "smtp://user:password@mail.example.org:587")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("has something after the port; in a user or password write / ? # and @ as %2F %3F %23 and %40")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    # Standard Webhooks 1.0.0: 24 to 64 random bytes in base64, marked as what they are.
    text = value.get_secret_value()
    try:
        length = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except ValueError:
        length = 0
    if not (text.startswith("whsec_") and 24 <= length <= 64):
        raise ValueError(
            'must be whsec_ and 24 to 64 bytes in base64; make one: echo "whsec_$(openssl rand -base64 32)"'
        )
    return value


def _api_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("is not a key as `budget keys add` prints it")
    return value


def _addresses(text: str) -> str:
    found = [address for _, address in getaddresses([text])]
    if not text.isprintable() or not all(re.fullmatch(r"[^@\s]+@[^@\s]+", address) for address in found):
        raise ValueError("is not a list of e-mail addresses such as ops@example.org, Ann <ann@example.org>")
    return text


def _origins(text: str) -> str:
    for origin in filter(None, (part.strip() for part in text.split(","))):
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or not parts.hostname:
            raise ValueError(f"{origin!r} is not an origin such as https://board.example; separate several by commas")
    return text


Amount = Annotated[str, AfterValidator(_amount)]
Origins = Annotated[str, AfterValidator(_origins)]
Currency = Annotated[str, AfterValidator(_currency)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Port = Annotated[int, Field(ge=1, le=65535)]
HttpUrl = Annotated[SecretStr, AfterValidator(_http_url)]
SmtpUrl = Annotated[SecretStr, AfterValidator(_smtp_url)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]
Addresses = Annotated[str, AfterValidator(_addresses)]
PolicyName = Literal["IGNORE", "WARN", "SOFT_LIMIT", "HARD_LIMIT"]


class Settings(BaseSettings):
    """All settings of one process. Build it with `load_settings`, which words errors for people."""

    model_config = SettingsConfigDict(env_prefix="BUDGET_", env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: Port = 8013
    ai_port: Port = 45013
    debug: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    data_dir: Path = Path(".budget")

    default_currency: Currency = "USD"
    enforcement_level: PolicyName = "WARN"
    timezone: TimeZone = "UTC"
    daily_limit: Amount | None = Field(None, validation_alias=AliasChoices("DAILY_BUDGET_LIMIT", "daily_limit"))
    weekly_limit: Amount | None = Field(None, validation_alias=AliasChoices("WEEKLY_BUDGET_LIMIT", "weekly_limit"))
    monthly_limit: Amount | None = Field(None, validation_alias=AliasChoices("MONTHLY_BUDGET_LIMIT", "monthly_limit"))
    allocations: dict[str, Decimal] = Field(default_factory=dict, validation_alias="allocations")

    database_url: SecretStr | None = None
    kafka_bootstrap_servers: str | None = None
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_kind: Literal["configured", "apache", "trial"] = "configured"  # `budget up` tells its roles what it started
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    kafka_partitions: int = Field(4, ge=1, le=1024)
    kafka_replication_factor: int = Field(1, ge=1, le=15)

    update_prices_on_start: bool = True
    price_update_interval: int = Field(3600, ge=60)
    price_update_url: Annotated[str, AfterValidator(_web_address)] = DEFAULT_PRICE_URL
    price_move_factor: Decimal = Field(Decimal(2), gt=1, le=1000)
    drift_alert_percent: int = Field(5, ge=1, le=1000)
    simulate_max_rows: int = Field(1_000_000, ge=1)
    self_check_interval: int = Field(3600, ge=0)
    exchange_rate_url: Annotated[str, AfterValidator(_web_address)] | None = None
    unpriced: Literal["deny", "fallback"] = "deny"
    fallback_price_per_1m: Amount | None = None
    cost_source: Literal["computed", "reported"] = "computed"
    default_max_output_tokens: int = Field(1024, ge=1, le=10_000_000)

    hold_ttl_s: int = Field(600, ge=1, le=86_400)
    check_timeout_ms: int = Field(2000, ge=10, le=60_000)
    stale_after_s: int = Field(30, ge=1)
    stale_policy: Literal["allow", "deny"] = "allow"
    api_keys_file: Path | None = None
    cors_origins: Origins | None = None
    rate_limit_per_s: int | None = Field(None, ge=1, le=1_000_000)
    api_key: ApiKey | None = None

    notify_webhook_url: HttpUrl | None = None
    notify_webhook_secret: WebhookSecret | None = None
    notify_slack_url: HttpUrl | None = None
    notify_smtp_url: SmtpUrl | None = None
    notify_email_from: Addresses | None = None
    notify_email_to: Addresses | None = None
    notify_min_severity: Literal["info", "warning", "error"] = "info"
    notify_give_up_after_s: int = Field(3600, ge=1, le=86_400)
    notify_max_age_s: int = Field(86_400, ge=60)

    instance: str | None = None
    metrics_port: int = Field(0, ge=0, le=65535)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` hands over: it has read the environment and the file already."""
        return (init_settings,)

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.unpriced == "fallback" and self.fallback_price_per_1m is None:
            raise ValueError("BUDGET_UNPRICED=fallback needs BUDGET_FALLBACK_PRICE_PER_1M, for example 15.00")
        total = sum(self.allocations.values(), Decimal(0))
        if total > 100:
            names = ", ".join(f"{name}_ALLOCATION" for name in sorted(self.allocations))
            raise ValueError(f"{names} add up to {total}; they must not pass 100")
        if self.kafka_security_protocol.startswith("SASL") and not self.kafka_sasl_username:
            raise ValueError("BUDGET_KAFKA_SECURITY_PROTOCOL with SASL needs BUDGET_KAFKA_SASL_USERNAME and _PASSWORD")
        webhook = (self.notify_webhook_url, self.notify_webhook_secret)
        if any(webhook) and not all(webhook):
            raise ValueError("BUDGET_NOTIFY_WEBHOOK_URL and BUDGET_NOTIFY_WEBHOOK_SECRET need each other")
        mail = (self.notify_smtp_url, self.notify_email_from, self.notify_email_to)
        if any(mail) and not all(mail):
            raise ValueError(
                "BUDGET_NOTIFY_SMTP_URL, BUDGET_NOTIFY_EMAIL_FROM and BUDGET_NOTIFY_EMAIL_TO need each other"
            )
        return self

    @property
    def notifies(self) -> bool:
        """Whether alerts are to be passed on to somebody, rather than to the log alone."""
        return any((self.notify_webhook_url, self.notify_slack_url, self.notify_smtp_url))


def load_settings(
    environ: Mapping[str, str] | None = None, *, env_file: Path | None = None, **overrides: Any
) -> Settings:
    """
    Read the settings: *overrides*, else the environment, else `.env.budget` of the working directory.

    Raises:
        ConfigError: one line that names every wrong setting, what is wrong with it and where it stands.
    """
    path = env_file or Path(ENV_FILE)
    try:
        from_file = {key: value for key, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    merged = {**from_file, **(os.environ if environ is None else environ)}
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        variable = variable_of(name)
        if variable and merged.get(variable, "").strip():
            key = name if field.validation_alias is None else variable
            values[key] = merged[variable].strip()
    values["allocations"] = _allocations(merged)
    values.update(overrides)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def variable_of(field: str) -> str | None:
    """The environment variable of a settings field, or None for a field that has none of its own."""
    if field == "allocations":
        return None
    if field in ("daily_limit", "weekly_limit", "monthly_limit"):
        return f"{field.removesuffix('_limit').upper()}_BUDGET_LIMIT"
    return f"BUDGET_{field.upper()}"


def _allocations(merged: Mapping[str, str]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for variable, text in merged.items():
        match = _ALLOCATION.fullmatch(variable)
        if not match or not text.strip():
            continue
        try:
            percent = Decimal(text.strip())
        except InvalidOperation:
            percent = Decimal("NaN")
        if not (percent.is_finite() and 0 <= percent <= 100 and percent == round(percent, 4)):
            raise ConfigError(f"{variable}={text!r} is not a percentage between 0 and 100 with at most 4 decimals")
        found[match.group(1)] = percent
    return found


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        variable = name if name.isupper() else variable_of(name) if name else None
        cause = item.get("ctx", {}).get("error")
        reason = str(cause) if cause else item["msg"]
        secret = name in Settings.model_fields and "SecretStr" in repr(Settings.model_fields[name].annotation)
        shown = "" if secret or isinstance(item["input"], (dict, Settings)) else f"={item['input']}"
        parts.append(f"{variable}{shown}: {reason}" if variable else reason)
    return "invalid settings: " + "; ".join(parts)
