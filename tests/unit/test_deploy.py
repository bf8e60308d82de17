"""What deploy/ and docker-compose.yml name exists, parses and listens only where it may; checked without Docker."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest
import typer
import typer.core
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from budget_bus import metrics
from budget_bus.cli import app
from budget_bus.errors import ConfigError
from budget_bus.roles import ROLES
from budget_bus.settings import Settings, load_settings, variable_of

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "tests/unit/compose_spec/compose-spec.json").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()

# Typer carries its own copy of click; its parameter error tells which one.
UsageError = typer.BadParameter.__base__ or Exception

Compose = dict[str, Any]


@pytest.fixture
def compose() -> Compose:
    loaded: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def of_ours(compose: Compose) -> dict[str, Compose]:
    return {name: service for name, service in compose["services"].items() if service["image"] == "budget_bus:local"}


def test_the_compose_file_keeps_to_the_specification(compose: Compose) -> None:
    assert [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(compose)] == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"restrat": "always"}, id="a misspelt key"),
        pytest.param({"healthcheck": {"test": 7}}, id="a test that is no command"),
        pytest.param({"depends_on": {"kafka": {"condition": "healthy"}}}, id="an unknown condition"),
    ],
)
def test_the_specification_refuses(compose: Compose, change: dict[str, Any]) -> None:
    compose["services"]["gateway"].update(change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(compose)


def dangling(compose: Compose) -> list[str]:
    """Paths, volumes and services that are named and do not exist."""
    lines = []
    for name, service in compose["services"].items():
        paths = [service["build"]["context"], service["build"]["dockerfile"]] if "build" in service else []
        sources = [volume.split(":")[0] for volume in service.get("volumes", ())]
        paths += [source for source in sources if source.startswith(".")]
        lines += [f"{name}: {path}" for path in paths if not (ROOT / path).exists()]
        lines += [
            f"{name}: {source}" for source in sources if source[0] not in "./" and source not in compose["volumes"]
        ]
        lines += [f"{name}: {other}" for other in service.get("depends_on", ()) if other not in compose["services"]]
    return lines


def test_every_path_volume_and_service_it_names_exists(compose: Compose) -> None:
    assert dangling(compose) == []


def test_a_dangling_name_is_seen(compose: Compose) -> None:
    compose["services"]["prometheus"]["volumes"] += ["./deploy/gone.yml:/etc/gone.yml:ro", "gone:/data"]
    compose["services"]["relay"]["depends_on"] = {"gone": {"condition": "service_started"}}
    assert dangling(compose) == ["relay: gone", "prometheus: ./deploy/gone.yml", "prometheus: gone"]


def exposed(compose: Compose) -> list[str]:
    """What would listen to more than this machine."""
    lines = []
    for name, service in compose["services"].items():
        lines += [f"{name}: {port}" for port in service.get("ports", ()) if not str(port).startswith("127.0.0.1:")]
        host = service.get("environment", {}).get("BUDGET_HOST", "127.0.0.1")
        lines += [f"{name}: {host}"] if host != "127.0.0.1" else []
    return lines


def test_nothing_listens_beyond_this_machine(compose: Compose) -> None:
    assert exposed(compose) == []


def test_an_open_port_is_seen(compose: Compose) -> None:
    compose["services"]["kafka"]["ports"] = ["9092:9092"]
    compose["services"]["gateway"]["environment"]["BUDGET_HOST"] = "0.0.0.0"  # noqa: S104 - the mistake to be found
    assert exposed(compose) == ["kafka: 9092:9092", "gateway: 0.0.0.0"]


def commands(service: Compose) -> list[list[str]]:
    """The `budget` commands of a service, each without its first word."""
    if "entrypoint" not in service:
        return [service["command"]]
    words = [shlex.split(command) for command in service["command"][0].split("&&")]
    assert all(first == "budget" for first, *_ in words)
    return [rest for _, *rest in words]


def parse(words: list[str]) -> None:
    """
    Read a command line as `budget` would, without running it.

    Raises:
        UsageError: there is no such command, or it takes no such argument.
    """
    command: Any = typer.main.get_command(app)
    name: str | None = "budget"
    parent: typer.Context | None = None
    while isinstance(command, typer.core.TyperGroup):
        parent = typer.Context(command, info_name=name, parent=parent)
        name, command, words = command.resolve_command(parent, words)
    command.make_context(name, words, parent=parent)


def test_every_command_it_runs_is_one_of_ours(compose: Compose) -> None:
    lines = [words for service in of_ours(compose).values() for words in commands(service)]
    for words in lines:
        parse(words)
    assert {words[1] for words in lines if words[0] == "serve"} == set(ROLES)


@pytest.mark.parametrize("line", ["serve everything", "serve", "dbase migrate", "serve gateway --fast"])
def test_a_wrong_command_is_seen(line: str) -> None:
    with pytest.raises(UsageError):
        parse(line.split())


def settings_of(service: Compose) -> Settings:
    known = {variable_of(field) for field in Settings.model_fields}
    environment = service.get("environment", {})
    if unknown := environment.keys() - known:
        raise ConfigError(f"{', '.join(sorted(unknown))}: no such setting")
    # One without a value is handed on from whoever runs Compose.
    given = {name: str(value) for name, value in environment.items() if value is not None}
    return load_settings(given, env_file=Path("/dev/null"))


def test_every_setting_it_sets_is_one_of_ours(compose: Compose) -> None:
    for service in of_ours(compose).values():
        settings = settings_of(service)
        assert settings.database_url
        assert settings.kafka_bootstrap_servers == "127.0.0.1:9092"


@pytest.mark.parametrize("wrong", [{"BUDGET_KAFKA_SERVERS": "127.0.0.1:9092"}, {"BUDGET_METRICS_PORT": "many"}])
def test_a_wrong_setting_is_seen(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        settings_of({"environment": wrong})


def copied(dockerfile: str) -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def allowed_into_the_build(path: str) -> bool:
    ignored, *excepted = (ROOT / "deploy/Dockerfile.dockerignore").read_text().split()
    return ignored == "*" and f"!{path}" in excepted


def test_the_image_is_built_from_what_is_there() -> None:
    sources = copied(DOCKERFILE)
    assert {"requirements.lock", "budget_bus", "deploy/healthcheck.py"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not allowed_into_the_build(source)] == []
    assert not allowed_into_the_build(".env.budget")


def test_the_image_runs_our_command_as_nobody_special() -> None:
    last_stage = DOCKERFILE.split("\nFROM ")[-1]
    entrypoint = json.loads(re.findall(r"^ENTRYPOINT (.+)$", last_stage, re.MULTILINE)[0])
    parse(json.loads(re.findall(r"^CMD (.+)$", last_stage, re.MULTILINE)[0]))
    assert entrypoint[0] in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert re.findall(r"^USER (.+)$", last_stage, re.MULTILINE) == ["budget"]


def unlocked(lock: str) -> set[str]:
    """What the package needs at run time, directly or not, and *lock* does not pin with a hash."""
    pinned = set(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==[^\n]*\\\n +--hash=sha256:", lock, re.MULTILINE))
    needed: set[str] = set()
    waiting = [(Requirement("budget-bus"), "")]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name in needed and not requirement.extras:
            continue
        needed.add(name)
        for line in importlib.metadata.requires(name) or ():
            waiting += [(Requirement(line), wanted) for wanted in ("", *requirement.extras)]
    return needed - pinned - {"budget-bus"}


def test_the_lock_pins_all_that_the_image_installs() -> None:
    assert unlocked((ROOT / "requirements.lock").read_text()) == set()


def test_a_dependency_without_a_pin_is_seen() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert unlocked(lock.replace("\naiokafka==", "\naiokafka-next==")) == {"aiokafka"}


def test_prometheus_scrapes_every_role_where_it_listens(compose: Compose) -> None:
    wanted = {}
    for name, service in of_ours(compose).items():
        if name in ROLES:
            settings = settings_of(service)
            wanted[name] = f"127.0.0.1:{settings.port if name == 'gateway' else settings.metrics_port}"
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    assert {static["labels"]["role"]: static["targets"][0] for static in job["static_configs"]} == wanted


def unknown_metrics(expression: str) -> set[str]:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    known = {family.name + suffix for family in metrics.REGISTRY.collect() for suffix in suffixes[family.type]}
    return set(re.findall(r"budget_bus_\w+", expression)) - known


def test_every_alert_rule_watches_a_metric_that_exists_and_says_what_to_do() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus-rules.yml").read_text())["groups"]
    assert len(group["rules"]) > 5
    for rule in group["rules"]:
        assert unknown_metrics(rule["expr"]) == set()
        assert set(rule["annotations"]) == {"summary", "action"}


def test_a_misspelt_metric_is_seen() -> None:
    assert unknown_metrics("rate(budget_bus_conflict_total[5m]) > 0") == {"budget_bus_conflict_total"}


@pytest.fixture
def answering() -> Iterator[tuple[int, list[str]]]:
    """A small server that is well at /metrics, and not ready elsewhere; with the paths it was asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/metrics" else 503)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("variable", "path", "status"),
    [
        pytest.param("BUDGET_METRICS_PORT", "/metrics", 0, id="a role that answers is healthy"),
        pytest.param("BUDGET_PORT", "/health/ready", 1, id="a gateway that is not ready is not healthy"),
    ],
)
def test_the_health_check(answering: tuple[int, list[str]], variable: str, path: str, status: int) -> None:
    port, asked = answering
    check = [sys.executable, str(ROOT / "deploy/healthcheck.py")]
    done = subprocess.run(check, env={variable: str(port)}, capture_output=True, check=False, timeout=30)
    assert (done.returncode, asked) == (status, [path])
