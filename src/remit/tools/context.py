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


class HttpResponse(NamedTuple):
    """What a server answered: `body` is JSON where it said so, else text."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Http:
    """Requests through the broker, to the hosts that were granted. It adds credentials; the tool never has them."""

    def __init__(self, ask: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self._ask = ask

    def get(self, url: str, *, query: Mapping[str, str] | None = None) -> HttpResponse:
        """GET `url`. Raises: ToolFailure where it is refused or does not answer."""
        return self.request("GET", url, query=query)

    def post(self, url: str, *, body: Any = None) -> HttpResponse:
        """POST `body` as JSON to `url`. Raises: as `get`."""
        return self.request("POST", url, body=body)

    def request(
        self, method: str, url: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> HttpResponse:
        """Any request. Raises: as `get`."""
        request = {"method": method, "url": url, "query": dict(query or {}), "body": body}
        answer = self._ask("http", request)
        return HttpResponse(answer["status"], answer["body"], answer["headers"])


class Sql:
    """Named queries of a database that was granted."""

    def __init__(self, ask: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self._ask = ask

    def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a named query. Raises: ToolFailure where it is refused."""
        rows: list[dict[str, Any]] = self._ask("sql", {"query": name, "parameters": parameters})
        return rows


class Context:
    """What one call was granted. `secrets` are names: their values never come here.

    `idempotency_key` is the same at every try of one call.
    """

    def __init__(self, *, idempotency_key: str = "", secrets: Sequence[str] = ()) -> None:
        self.idempotency_key = idempotency_key
        self.secrets = tuple(secrets)
        self.http = Http(self.ask)
        self.sql = Sql(self.ask)

    def progress(self, text: str) -> None:
        """Tell people how far it is."""
        self.ask("progress", {"text": text})

    def ask(self, kind: str, request: Mapping[str, Any]) -> Any:
        """Ask the broker. Raises: ToolFailure where it refuses."""
        raise ToolFailure(f"{kind} was not granted to this tool")


class FakeContext(Context):
    """For a test of a tool: `answers` by kind (`http`, `sql`), each a function of the request.

    What was asked is in `asked`, what was told in `told`.
    """

    def __init__(
        self,
        answers: Mapping[str, Callable[[Mapping[str, Any]], Any]] | None = None,
        *,
        idempotency_key: str = "key",
        secrets: Sequence[str] = (),
    ) -> None:
        super().__init__(idempotency_key=idempotency_key, secrets=secrets)
        self._answers = dict(answers or {})
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.told: list[str] = []

    def ask(self, kind: str, request: Mapping[str, Any]) -> Any:
        if kind == "progress":
            self.told.append(request["text"])
            return None
        self.asked.append((kind, request))
        if kind not in self._answers:
            return super().ask(kind, request)
        return self._answers[kind](request)
