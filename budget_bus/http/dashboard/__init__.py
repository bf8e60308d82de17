"""
The dashboard at /: one page that asks the REST interface and the feeds, as any other client would.

page.html, page.css and page.js are the page; the charts are drawn by plotly.js, which comes in a wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.routing import Route

from budget_bus.http.files import folder_of, page, serve_file

_HERE: Final = Path(__file__).parent


def routes() -> list[Route]:
    """The page and what it loads. They hold no data, so that a browser can load them before it knows a key."""
    return [
        Route("/", page((_HERE / "page.html").read_text(encoding="utf-8"))),
        Route("/dashboard/page.js", serve_file(_HERE / "page.js", "text/javascript")),
        Route("/dashboard/page.css", serve_file(_HERE / "page.css", "text/css")),
        Route(
            "/dashboard/plotly.js", serve_file(folder_of("plotly") / "package_data/plotly.min.js", "text/javascript")
        ),
    ]
