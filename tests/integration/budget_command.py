"""The `budget` command as people run it: a process of its own, with the settings of a test."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from budget_bus.settings import Settings


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


# A test run in the background ignores SIGINT, and so would its children.
_LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from budget_bus.cli import main; main()"
)


def environment(settings: Settings) -> dict[str, str]:
    """The settings of a test as the environment of a process."""
    database = settings.database_url
    return {
        "BUDGET_DATA_DIR": str(settings.data_dir),
        "BUDGET_DATABASE_URL": database.get_secret_value() if database else "",
        "BUDGET_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "BUDGET_TOPIC_PREFIX": settings.topic_prefix,
        "BUDGET_HOST": settings.host,
        "BUDGET_PORT": str(settings.port),
        "BUDGET_AI_PORT": str(settings.ai_port),
    }


async def start(settings: Settings, *arguments: object, **environ: str) -> asyncio.subprocess.Process:
    """Start the command; it can be interrupted."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LISTENING, *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment(settings), **environ},
        cwd=settings.data_dir,
    )


async def budget(settings: Settings, *arguments: object, code: int | None = 0, **environ: str) -> Result:
    """Run it to its end; fails unless it ends with *code*, or with a traceback whatever the code."""
    process = await start(settings, *arguments, **environ)
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result = Result(process.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in result.err, result.err
    assert code is None or result.code == code, f"exit status {result.code}\n{result.out}\n{result.err}"
    return result
