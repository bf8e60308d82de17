"""`budget ask`: the command that asks the specialist, and how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys

import pytest

from budget_bus.local.ports import free_port
from budget_bus.settings import Settings
from budget_bus.specialist.protocol import reply
from budget_bus.specialist.server import Server
from tests.integration.budget_command import budget, environment


async def _echo(line: bytes) -> bytes:
    asked = json.loads(line)
    said = f"{asked['content']} ({len(asked['history'])}, {asked['component']})\x1b[2J"
    return reply("response", content=said, model="intents", usage={}, latency=0)


async def _refuse(line: bytes) -> bytes:
    return reply("error", error="The budget service does not answer.")


@pytest.fixture
def here(settings: Settings) -> Settings:
    return settings.model_copy(update={"ai_port": free_port()})


async def test_it_prints_the_answer_and_nothing_that_commands_a_terminal(here: Settings) -> None:
    async with Server(_echo).listening(here.ai_port):
        result = await budget(here, "ask", "who", "spent most?", "--component", "rhetor")
        assert result.out == "who spent most? (0, rhetor)\\x1b[2J\n"
        told = (await budget(here, "ask", "help", "--format", "json")).json
    assert (told["type"], told["model"]) == ("response", "intents")


async def test_what_the_specialist_cannot_answer_is_an_error(here: Settings) -> None:
    async with Server(_refuse).listening(here.ai_port):
        result = await budget(here, "ask", "help", code=1)
    assert result.err == "error: The budget service does not answer.\n"


async def test_without_a_specialist_it_says_how_to_start_one(here: Settings) -> None:
    result = await budget(here, "ask", "help", code=1)
    assert "budget serve specialist" in result.err


async def test_something_else_that_listens_there_is_said(here: Settings) -> None:
    async def other(line: bytes) -> bytes:
        return b"HTTP/1.1 400 Bad Request\n"

    async with Server(other).listening(here.ai_port):
        result = await budget(here, "ask", "help", code=1)
    assert "check BUDGET_AI_PORT" in result.err


async def test_no_question_and_no_terminal_is_bad_usage(here: Settings) -> None:
    assert "no question" in (await budget(here, "ask", code=2)).err


async def test_in_a_terminal_it_is_a_conversation(here: Settings) -> None:
    ours, theirs = pty.openpty()
    async with Server(_echo).listening(here.ai_port):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "budget_bus.cli", "ask"),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment(here)},
        )
        os.close(theirs)
        os.write(ours, b"one\ntwo\n\n")
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    os.close(ours)
    assert process.returncode == 0
    assert "one (0, None)" in out.decode()
    assert "two (2, None)" in out.decode()
