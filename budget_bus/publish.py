"""
`python -m budget_bus.publish [--check]`: everything in schemas/ that is generated from the code.

A JSON Schema for each event, `asyncapi.yaml` for the topics, `openapi.json` for the gateway.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from budget_bus.events import asyncapi, published
from budget_bus.http.app import ENDPOINTS
from budget_bus.http.openapi import document

_GENERATED = ("*.v*.json", "asyncapi.yaml", "openapi.json")


def rendered() -> dict[str, str]:
    """File name -> text of every file, as schemas/ should hold it."""
    texts = published.rendered()
    texts["asyncapi.yaml"] = yaml.safe_dump(asyncapi.document(), sort_keys=False, allow_unicode=True, width=120)
    texts["openapi.json"] = json.dumps(document(ENDPOINTS), indent=2, ensure_ascii=False) + "\n"
    return texts


def drift(folder: Path) -> list[str]:
    """One line per file in *folder* that is missing, differs from the code, or comes from nothing in it."""
    wanted = rendered()
    found = {path.name: path.read_text(encoding="utf-8") for made in _GENERATED for path in folder.glob(made)}
    lines = [f"{name}: is missing" for name in wanted.keys() - found.keys()]
    lines += [f"{name}: belongs to no event" for name in found.keys() - wanted.keys()]
    lines += [f"{name}: differs from its model" for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    return sorted(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check only tell what is out of date (exit status 1)."""
    parser = argparse.ArgumentParser(prog="python -m budget_bus.publish", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--into", type=Path, default=Path("schemas"), help="the folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    stale = drift(options.into)
    if options.check:
        for line in stale:
            print(f"{options.into}/{line}; run `python -m budget_bus.publish`", file=sys.stderr)
        return 1 if stale else 0
    options.into.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (options.into / name).write_text(text, encoding="utf-8")
    for line in stale:
        print(f"{options.into}/{line}" + ("" if "belongs" in line else ": written"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
