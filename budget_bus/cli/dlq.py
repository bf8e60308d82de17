"""`budget dlq`: what could not be used, why, and another try."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from budget_bus.cli.find import find_service
from budget_bus.cli.render import Format, FormatOption, printable, show
from budget_bus.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from budget_bus.cli.dead_letters import Letter
    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

dlq = typer.Typer(help="Dead letters: list, show and replay them.", no_args_is_help=True)

_COLUMNS = {
    "Topic": "topic",
    "Place": "place",
    "At": "at",
    "Reason": "reason",
    "Source": "source",
    "Key": "key",
}
_PLACE = re.compile(r"(\d{1,9}):(\d{1,18})")
_HEX_LINE = 16

TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="The dead-letter topic, e.g. usage.recorded.dlq.")]


@dlq.command("list")
def list_letters(
    topic: Annotated[
        str | None, typer.Argument(metavar="[TOPIC]", help="One dead-letter topic; without it all of them.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the newest so many of each partition.", min=1, max=10_000_000)
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List dead letters: where they lie, why, and where they came from.

    Example: budget dlq list usage.recorded.dlq --limit 20
    """
    show(asyncio.run(_list(find_service(kafka=True), topic, limit)), _COLUMNS, form, empty="no dead letters")


@dlq.command("show")
def show_letter(
    topic: TopicArgument,
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `budget dlq list` says.")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the value, byte for byte.")] = False,
) -> None:
    """
    Show one dead letter: its headers and its value as it came, in hexadecimal when it is not text.

    Example: budget dlq show usage.recorded.dlq 0:17
    """
    letter = asyncio.run(_one(find_service(kafka=True), topic, *_parse_place(place)))
    value = letter.record.value
    if raw:
        sys.stdout.buffer.write(value or b"")
        return
    for name, text in letter.row().items():
        if text is not None and name in ("topic", "place", "at", "reason", "detail", "source", "key"):
            print(f"{name}: {printable(str(text))}")
    for name, content in letter.headers:
        print(f"header {printable(name)}: {printable(content.decode(errors='backslashreplace'))}")
    print(f"value: {'null' if value is None else f'{len(value)} bytes'}")
    if value is not None:
        print(_shown(value))


@dlq.command("replay")
def replay_letters(
    topic: TopicArgument,
    place: Annotated[
        str | None,
        typer.Argument(metavar="[PARTITION:OFFSET]", help="One letter; without it all that lie there now."),
    ] = None,
) -> None:
    """
    Publish dead letters again to the topic that they came from, with their value, key and headers.

    The letters stay where they are. Replaying one twice counts it once only when the event carries an event_id (a
    question its request_id): without one, every replay is a new event.

    Example: budget dlq replay usage.recorded.dlq 0:17
    """
    where = None if place is None else _parse_place(place)
    sent, refused = asyncio.run(_replay(find_service(kafka=True), topic, where))
    for reason in refused:
        print(f"error: {reason}", file=sys.stderr)
    print(f"replayed {sent} dead letter{'' if sent == 1 else 's'}")
    if refused:
        raise typer.Exit(1)


def _parse_place(text: str) -> tuple[int, int]:
    match = _PLACE.fullmatch(text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not PARTITION:OFFSET, such as 0:17", param_hint="PARTITION:OFFSET")
    return int(match[1]), int(match[2])


async def _list(settings: Settings, topic: str | None, newest: int | None) -> list[dict[str, object]]:
    from budget_bus.cli.dead_letters import TOPICS, known_topic, open_reader

    topics = TOPICS if topic is None else (known_topic(topic, settings.topic_prefix),)
    async with open_reader(settings) as reader:
        # Rows, not letters: a letter holds its value, which may be 5 MiB.
        return [letter.row() for name in topics async for letter in reader.read(name, newest=newest)]


async def _one(settings: Settings, topic: str, partition: int, offset: int) -> Letter:
    from budget_bus.cli.dead_letters import known_topic, open_reader

    async with open_reader(settings) as reader:
        return await reader.one(known_topic(topic, settings.topic_prefix), partition, offset)


async def _replay(settings: Settings, topic: str, place: tuple[int, int] | None) -> tuple[int, list[str]]:
    """How many were sent, and why others were not."""
    from budget_bus.cli.dead_letters import known_topic, open_reader, replay
    from budget_bus.kafka import connection
    from budget_bus.producers.sender import Sender

    name = known_topic(topic, settings.topic_prefix)
    sender = Sender(connection(settings))
    await sender.start()
    sent, refused = 0, []
    try:
        async with open_reader(settings) as reader:
            # Up to the end as it is now: a letter that fails again is buried anew behind it.
            letters = _only(reader.one(name, *place)) if place else reader.read(name)
            async for letter in letters:
                try:
                    source = await replay(sender, letter, settings.topic_prefix)
                except Rejected as error:
                    refused.append(str(error))
                else:
                    sent += 1
                    print(f"{name} {letter.place} -> {source}")
    finally:
        await sender.stop()
    return sent, refused


async def _only(letter: Awaitable[Letter]) -> AsyncIterator[Letter]:
    yield await letter


def _shown(value: bytes) -> str:
    try:
        return printable(value.decode())
    except UnicodeDecodeError:
        lines = []
        for start in range(0, len(value), _HEX_LINE):
            part = value[start : start + _HEX_LINE]
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
            lines.append(f"{start:08x}  {part.hex(' '):<{_HEX_LINE * 3}} {text}")
        return "\n".join(lines)
