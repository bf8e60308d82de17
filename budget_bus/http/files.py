"""Pages and files that are the same for everybody, some of them from wheels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

Show = Callable[[Request], Awaitable[Response]]

# Viewers and charts set styles and small images by themselves; scripts and requests are ours alone.
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(text: str) -> Show:
    """A page of HTML that may load nothing from elsewhere and be framed by nobody."""

    async def show(_request: Request) -> Response:
        return HTMLResponse(text, headers={**_POLICY, "Cache-Control": "no-cache"})

    return show


def serve_file(path: Path, media_type: str) -> Show:
    """A file; a browser asks each time whether it has changed, by its ETag."""

    found = path.stat()

    async def show(request: Request) -> Response:
        headers = {"Cache-Control": "no-cache"}
        response = FileResponse(path, media_type=media_type, headers=headers, stat_result=found)
        if request.headers.get("if-none-match") == response.headers["etag"]:
            return Response(status_code=304, headers={**headers, "ETag": response.headers["etag"]})
        return response

    return show


def folder_of(package: str) -> Path:
    """Where an installed package lies, without importing it: one of ours reads 9 MB when it is imported."""
    spec = find_spec(package)
    assert spec is not None  # noqa: S101  # a dependency of ours
    assert spec.submodule_search_locations  # noqa: S101  # and a package
    return Path(spec.submodule_search_locations[0])
