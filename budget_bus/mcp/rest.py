"""One request to the gateway, in its own process or over the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
from mcp.server.mcpserver.exceptions import ToolError


class Rest:
    """The REST interface through *client*; *authorization* is the header of whoever calls the tool, if there is one."""

    def __init__(self, client: httpx2.AsyncClient, authorization: str | None = None) -> None:
        self._client = client
        self._headers = {"Authorization": authorization} if authorization else {}

    async def ask(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """
        The JSON of the answer; what is None is not sent.

        Raises:
            ToolError: in plain words, what the service refuses and the fix, or that it is away.
        """
        try:
            response = await self._client.request(
                method,
                path,
                json=None if body is None else _given(body),
                params=_given(query or {}),
                headers=self._headers,
            )
        except httpx2.HTTPError as error:
            raise ToolError(f"The budget service does not answer ({error!r}); try again.") from None
        if response.status_code < 400:
            return response.json() if response.content else None
        raise ToolError(_refusal(response))


def _refusal(response: httpx2.Response) -> str:
    try:
        problem = response.json()
    except ValueError:
        return f"The budget service answered {response.status_code}."
    fields = [f"{error['field']} {error['message']}".strip() for error in problem.get("errors") or ()]
    return f"{'; '.join([problem['detail'], *fields])} ({response.status_code} {problem['type']})."


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [])}
