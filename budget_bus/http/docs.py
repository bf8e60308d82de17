"""/docs and /asyncapi with their documents, rendered by viewers that come in wheels: no request leaves the machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from budget_bus.events import asyncapi
from budget_bus.http import openapi
from budget_bus.http.files import folder_of, page, serve_file
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
        Route("/docs", page(_DOCS)),
        Route("/asyncapi", page(_ASYNCAPI)),
        Route("/docs/start.js", _show_start),
        *(
            Route(f"/docs/{name}", serve_file(folder_of(package) / inside, media_type))
            for name, (package, inside, media_type) in _FILES.items()
        ),
    ]


async def _show_asyncapi(_request: Request) -> Response:
    return Response(_asyncapi(), media_type="application/json")


@cache
def _asyncapi() -> bytes:
    return json.dumps(asyncapi.document()).encode()


async def _show_start(_request: Request) -> Response:
    return Response(_START, media_type="text/javascript")
