"""
Settings: from the environment, then `.env.budget` in the working directory; validated together, frozen.

Every name, default and meaning is listed in README.md. Nothing here is read at import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from budget_bus.errors import ConfigError, Rejected
from budget_bus.money import check_currency, parse_amount

ENV_FILE = ".env.budget"
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


Amount = Annotated[str, AfterValidator(_amount)]
Currency = Annotated[str, AfterValidator(_currency)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Port = Annotated[int, Field(ge=1, le=65535)]
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
    unpriced: Literal["deny", "fallback"] = "deny"
    fallback_price_per_1m: Amount | None = None
    default_max_output_tokens: int = Field(1024, ge=1, le=10_000_000)

    hold_ttl_s: int = Field(600, ge=1, le=86_400)
    check_timeout_ms: int = Field(2000, ge=10, le=60_000)
    stale_after_s: int = Field(30, ge=1)
    stale_policy: Literal["allow", "deny"] = "allow"
    api_keys_file: Path | None = None

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
        return self


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
        if not (percent.is_finite() and 0 <= percent <= 100):
            raise ConfigError(f"{variable}={text!r} is not a percentage between 0 and 100")
        found[match.group(1)] = percent
    return found


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        variable = name if name.isupper() else variable_of(name) if name else None
        cause = item.get("ctx", {}).get("error")
        reason = str(cause) if cause else item["msg"]
        secret = "password" in name or name == "database_url"
        shown = "" if secret or isinstance(item["input"], (dict, Settings)) else f"={item['input']}"
        parts.append(f"{variable}{shown}: {reason}" if variable else reason)
    return "invalid settings: " + "; ".join(parts)
