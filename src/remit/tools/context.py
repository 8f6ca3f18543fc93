"""What a tool was granted beside its arguments. There is nothing else: no environment, no network, no credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class ToolFailure(Exception):
    """The tool could not do it. The text is shown to the model, so it holds no secret.

    `retryable`: the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Response(NamedTuple):
    """What a service answered: `body` is JSON where it said so, else text, or None where there is none to show."""

    status: int
    body: Any


class Http:
    """Requests to the services whose free requests are granted. Their connectors add credentials, which never come here."""

    def __init__(self, call: Callable[..., Any], granted: Sequence[str]) -> None:
        self._call = call
        self._granted = granted

    def get(self, path: str, /, *, service: str | None = None, **query: Any) -> Response:
        """GET `path` of a service. Raises: as `request`."""
        return self.request("GET", path, service=service, query=query)

    def post(self, path: str, /, body: Any = None, *, service: str | None = None) -> Response:
        """POST `body` as JSON. Raises: as `request`."""
        return self.request("POST", path, service=service, body=body)

    def request(
        self,
        method: str,
        path: str,
        *,
        service: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Response:
        """Any request. `service`: its toolset's name, where several are granted.

        Raises: ToolFailure where it is refused or not answered.
        """
        given = {"method": method, "path": path, **({"query": dict(query)} if query else {})}
        if body is not None:
            given["body"] = body
        answer = self._call(_one("request_", service, self._granted), **given)
        if answer.get("truncated"):
            raise ToolFailure("the answer is larger than is read: ask for less")
        return Response(answer["status"], answer.get("body", answer.get("text")))


class Sql:
    """The databases whose tools are granted."""

    def __init__(self, call: Callable[..., Any], granted: Sequence[str]) -> None:
        self._call = call
        self._granted = granted

    def query(self, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """All rows of a named query. Raises: ToolFailure where it is refused, or has more than are given."""
        answer = self._call(name, **parameters)
        if answer.get("truncated"):
            raise ToolFailure(f"{name} has more rows than are given: ask for less")
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    def select(self, sql: str, *, database: str | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT, where free queries are granted. `database`: its toolset's name, where several are.

        Raises: as `query`.
        """
        return self.query(_one("query_", database, self._granted), sql=sql)


def _one(prefix: str, toolset: str | None, granted: Sequence[str]) -> str:
    """The tool of a kind that each toolset has one of. Raises: ToolFailure."""
    if toolset is not None:
        return f"{prefix}{toolset}"
    found = [name for name in granted if name.startswith(prefix)]
    if len(found) != 1:
        there = f"{', '.join(found)} are granted: say which" if found else "there is none"
        raise ToolFailure(f"it calls a tool {prefix}...; of those granted to it, {there}")
    return found[0]


class Context:
    """What one call was granted. `uses` are the tools that it may call.

    `idempotency_key` is the same at every try of one call. No credential ever comes here.
    """

    def __init__(self, *, idempotency_key: str = "", uses: Sequence[str] = ()) -> None:
        self.idempotency_key = idempotency_key
        self.uses = tuple(uses)
        self.http = Http(self.call, self.uses)
        self.sql = Sql(self.call, self.uses)

    def call(self, tool: str, /, **args: Any) -> Any:
        """The result of another tool: a call like any other, decided, limited and recorded.

        Raises: ToolFailure where it is refused or fails.
        """
        return self.ask("call", {"tool": tool, "args": args})

    def progress(self, text: str) -> None:
        """Tell people how far it is."""
        self.ask("progress", {"text": text})

    def ask(self, kind: str, request: Mapping[str, Any]) -> Any:
        """Ask the broker. Raises: ToolFailure where it refuses."""
        raise ToolFailure(f"{kind} was not granted to this tool")


class FakeContext(Context):
    """For a test of a tool: `answers` of the tools that it calls by their names, each a function of the arguments.

    The calls that it made are in `calls`, what it told in `told`.
    """

    def __init__(
        self, answers: Mapping[str, Callable[..., Any]] | None = None, *, idempotency_key: str = "key"
    ) -> None:
        self._answers = dict(answers or {})
        super().__init__(idempotency_key=idempotency_key, uses=tuple(self._answers))
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.told: list[str] = []

    def ask(self, kind: str, request: Mapping[str, Any]) -> Any:
        if kind == "progress":
            self.told.append(request["text"])
            return None
        tool, args = request["tool"], request["args"]
        self.calls.append((tool, args))
        if tool not in self._answers:
            raise ToolFailure(f"{tool} was not granted to this tool")
        return self._answers[tool](**args)
