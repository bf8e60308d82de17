"""What the benchmarks ran on: enough to tell two results apart, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from bench.stack import ROOT, Stack


def machine(stack: Stack) -> dict[str, Any]:
    """Processor, memory, kernel and versions; `load_before` above 0.5 says that the machine had other work."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "memory_gib": round(int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": stack.postgres.version(),
        "broker": stack.broker,
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> dict[str, Any]:
    """The commit that is measured, and whether the tree differs from it (in more than results)."""
    return {
        "commit": _git("rev-parse", "--short=10", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--", ".", ":!bench/results")),
    }


def _field(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
