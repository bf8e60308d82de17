"""
/docs and /asyncapi with their documents, rendered by viewers that come in wheels: no request leaves the machine.

The viewers' files are read from disk without importing their packages, one of which reads 9 MB when it is imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from budget_bus.events import asyncapi
from budget_bus.http import openapi
from budget_bus.http.route import Endpoint

_FILES: Final = {
    "swagger.js": ("offapi", "swagger_bundle.js", "text/javascript"),
    "swagger.css": ("offapi", "swagger_style.css", "text/css"),
    "asyncapi.js": ("asyncapi_viewer", "static/asyncapi-viewer.iife.js", "text/javascript"),
}
_START: Final = """window.onload = () => SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null, persistAuthorization: false,
})
"""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
{head}
</head>
<body>
{body}
</body>
</html>
"""
_DOCS: Final = _PAGE.format(
    title="budget_bus: REST",
    head='<link rel="stylesheet" href="/docs/swagger.css">',
    body='<div id="docs"></div>\n<script src="/docs/swagger.js"></script>\n<script src="/docs/start.js"></script>',
)
_ASYNCAPI: Final = _PAGE.format(
    title="budget_bus: topics",
    head='<script src="/docs/asyncapi.js" defer></script>',
    body='<asyncapi-viewer src="/asyncapi.json" sidebar></asyncapi-viewer>',
)
# The viewers set styles and small images by themselves; scripts and requests are ours alone.
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """The pages, what they load, and the two documents."""
    listed = tuple(endpoints)

    @cache
    def rest() -> dict[str, Any]:
        return openapi.document(listed)

    async def show_openapi(_request: Request) -> Response:
        return JSONResponse(rest())

    return [
        Route("/openapi.json", show_openapi),
        Route("/asyncapi.json", _show_asyncapi),
        Route("/docs", _page(_DOCS)),
        Route("/asyncapi", _page(_ASYNCAPI)),
        Route("/docs/start.js", _show_start),
        *(Route(f"/docs/{name}", _file(name)) for name in _FILES),
    ]


async def _show_asyncapi(_request: Request) -> Response:
    return Response(_asyncapi(), media_type="application/json")


@cache
def _asyncapi() -> bytes:
    return json.dumps(asyncapi.document()).encode()


async def _show_start(_request: Request) -> Response:
    return Response(_START, media_type="text/javascript")


def _page(text: str) -> Any:
    async def show(_request: Request) -> Response:
        return HTMLResponse(text, headers=_POLICY)

    return show


def _file(name: str) -> Any:
    package, inside, media_type = _FILES[name]

    async def show(_request: Request) -> Response:
        return FileResponse(_folder(package) / inside, media_type=media_type)

    return show


def _folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None  # noqa: S101  # a dependency of ours
    assert spec.submodule_search_locations  # noqa: S101  # and a package
    return Path(spec.submodule_search_locations[0])
