"""Texts in the cells of a spreadsheet, and the columns that a report has."""

from __future__ import annotations

from typing import Final

COLUMNS: Final = (
    "requests", "input_tokens", "output_tokens", "total_tokens", "cost", "unpriced_requests",
    "cache_read_input_tokens", "cache_savings", "late_requests", "late_cost", "restated_cost", "cost_per_request",
    "cost_per_1k_tokens",
)  # fmt: skip
"""The numbers of each group and each step."""

CONTEXT_COLUMNS: Final = ("contexts", "cost_per_context")
"""The numbers that groups and the total have besides."""


def spreadsheet_text(value: str | None) -> str:
    """A name that a spreadsheet would run as a formula is marked as text."""
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value or ""
