"""One request to the gateway, its refusals as our errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from budget_bus.cli.find import find_service
from budget_bus.errors import BudgetUnavailable, Conflict, FieldError, Forbidden, NotFound, Rejected, Unauthorized

if TYPE_CHECKING:
    import httpx2

    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_TIMEOUT_S = 30.0
# An export that has sent its heading still waits for its turn, and for the database to sort its rows.
_BETWEEN_CHUNKS_S = 600.0
_KINDS: dict[int, type[Rejected]] = {403: Forbidden, 404: NotFound, 409: Conflict}
_CALLED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where it listens is not where it is called


def ask(
    method: str,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    content: bytes | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> tuple[int, Any]:
    """
    Send one request and return the status and the JSON of the answer, None for an empty one.

    Raises:
        Rejected: the gateway said no; the text is its own, with the fields it names. Unauthorized, Forbidden: it did
            so because of BUDGET_API_KEY.
        BudgetUnavailable: no gateway answers, or what it needs is away.
    """
    import httpx2

    client, url = _client(timeout_s)
    try:
        with client:
            response = client.request(method, path, json=body, content=content, params=_given(query))
    except httpx2.HTTPError as error:
        raise _away(url, error) from None
    answer = _json(response)
    if response.status_code < 400:
        if answer is None and response.content:
            raise _no_gateway(f"{url}{path}")
        return response.status_code, answer
    raise _refusal(response.status_code, answer, f"{method} {url}{path}")


@contextmanager
def stream(path: str, query: Mapping[str, Any], *, media_type: str) -> Iterator[Iterator[bytes]]:
    """
    The content of an answer as it arrives, which must be of *media_type*.

    Raises:
        Rejected, Unauthorized, Forbidden, BudgetUnavailable: as `ask`; the last one also when it ends too early.
    """
    import httpx2

    client, url = _client(_BETWEEN_CHUNKS_S)
    begun = False
    with client:
        try:
            with client.stream("GET", path, params=_given(query)) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _refusal(response.status_code, _json(response), f"GET {url}{path}")
                if not response.headers.get("content-type", "").startswith(media_type):
                    raise _no_gateway(f"{url}{path}")
                begun = True
                yield response.iter_bytes()
        except httpx2.HTTPError as error:
            if begun:
                raise BudgetUnavailable(f"the answer of the gateway at {url} broke off: {error}; try again") from None
            raise _away(url, error) from None


def called(settings: Settings) -> str:
    """The host at which the gateway is called."""
    return _CALLED.get(settings.host, settings.host)


def url_of(settings: Settings) -> str:
    """Where the gateway is called."""
    host = called(settings)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def items(path: str, query: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """All items of a list, page after page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        _, page = ask("GET", path, query={**(query or {}), "cursor": cursor, "page_size": 1000})
        found += page["items"]
        cursor = page.get("next_cursor")
        if not cursor:
            return found


def _client(timeout_s: float = _TIMEOUT_S) -> tuple[httpx2.Client, str]:
    import httpx2

    settings = find_service()
    url = url_of(settings)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Proxies of the environment are for the web, not for the service beside us.
    return httpx2.Client(base_url=url, timeout=timeout_s, trust_env=False, headers=headers), url


def _given(query: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (query or {}).items() if value not in (None, "", [])}


def _away(url: str, error: Exception) -> BudgetUnavailable:
    return BudgetUnavailable(
        f"no gateway answers at {url}: {error}; start one with `budget up`, or set BUDGET_HOST and BUDGET_PORT"
    )


def _no_gateway(url: str) -> BudgetUnavailable:
    return BudgetUnavailable(f"what answers at {url} is no budget gateway; check BUDGET_HOST, BUDGET_PORT")


def _json(response: Any) -> Any:
    try:
        return response.json() if response.content else None
    except ValueError:
        return None


def _refusal(status: int, answer: Any, what: str) -> Exception:
    problem = answer if isinstance(answer, dict) else {}
    detail = str(problem.get("detail") or problem.get("title") or f"{what} answered {status}")
    if status == 401:
        return Unauthorized(f"{detail}; set BUDGET_API_KEY to a key of `budget keys add`")
    if status == 403:
        detail = f"{detail}; BUDGET_API_KEY says whose key is sent"
    if status >= 500:
        return BudgetUnavailable(detail, request_id=problem.get("request_id"))
    errors = [
        FieldError(str(item.get("field", "")), str(item.get("message", "")))
        for item in problem.get("errors") or []
        if isinstance(item, dict)
    ]
    return _KINDS.get(status, Rejected)(detail, errors)
