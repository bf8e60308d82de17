"""
`python -m budget_bus.publish [--check]`: everything that is generated from the code.

In schemas/ a JSON Schema for each event, `asyncapi.yaml` for the topics, `openapi.json` for the gateway; and
docs/api_reference.md, which says the same for people.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from budget_bus import reference
from budget_bus.events import asyncapi, published
from budget_bus.http.app import ENDPOINTS
from budget_bus.http.openapi import document
from budget_bus.http.problems import TABLE
from budget_bus.reference import ErrorKind

_GENERATED = ("schemas/*.v*.json", "schemas/asyncapi.yaml", "schemas/openapi.json", "docs/api_reference.md")


def rendered() -> dict[str, str]:
    """Path below the repository's root -> text of every file, as it should be."""
    rest, bus = document(ENDPOINTS), asyncapi.document()
    texts = {f"schemas/{name}": text for name, text in published.rendered().items()}
    texts["schemas/asyncapi.yaml"] = yaml.safe_dump(bus, sort_keys=False, allow_unicode=True, width=120)
    texts["schemas/openapi.json"] = json.dumps(rest, indent=2, ensure_ascii=False) + "\n"
    texts["docs/api_reference.md"] = reference.render(rest, bus, _error_kinds())
    return texts


def _error_kinds() -> list[ErrorKind]:
    """How requests can fail, in the words of the first error of each kind."""
    found: dict[tuple[int, str], ErrorKind] = {}
    for error, kind in TABLE.items():
        meaning = kind.detail or " ".join((inspect.getdoc(error) or "").split())
        found.setdefault((kind.status, kind.slug), ErrorKind(kind.status, kind.slug, meaning.rstrip(".")))
    return [found[key] for key in sorted(found)]


def drift(root: Path) -> list[str]:
    """One line per file below *root* that is missing, differs from the code, or comes from nothing in it."""
    wanted = rendered()
    paths = [path for made in _GENERATED for path in root.glob(made)]
    found = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    lines = [f"{name}: is missing" for name in wanted.keys() - found.keys()]
    lines += [f"{name}: belongs to no event" for name in found.keys() - wanted.keys()]
    lines += [f"{name}: differs from its model" for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    return sorted(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check only tell what is out of date (exit status 1)."""
    parser = argparse.ArgumentParser(prog="python -m budget_bus.publish", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="of the repository (default: where you are)")
    options = parser.parse_args(arguments)
    stale = drift(options.root)
    if options.check:
        for line in stale:
            print(f"{line}; run `python -m budget_bus.publish`", file=sys.stderr)
        return 1 if stale else 0
    for name, text in rendered().items():
        (options.root / name).parent.mkdir(parents=True, exist_ok=True)
        (options.root / name).write_text(text, encoding="utf-8")
    for line in stale:
        print(line + ("" if "belongs" in line else ": written"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
