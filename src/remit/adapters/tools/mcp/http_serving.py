"""The tools over streamable HTTP, for whoever has a token: without one nothing is answered but 401.

A browser that was led here by a name that turned into this machine's is sent away: only known hosts are served, and
no page of another origin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mcp.server import Server
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route

from remit.adapters.listening import ServingOptions, listen, served
from remit.adapters.tools.mcp.serving import Context
from remit.adapters.tools.mcp.tokens import Tokens, digest_of
from remit.core.actions import Principal

DRAIN_S = 2
PATH = "/mcp"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Where to listen, by which further names of hosts we are reached, and how much is taken at most."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    body_bytes_max: int = 2 * 1024 * 1024
    connections_max: int = 256
    sessions_max: int = 1_000
    idle_s: float = 1_800.0


class _Verifier:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the library keeps of it is its digest."""
        digest = digest_of(token)
        if self._tokens.of_digest(digest) is None:
            return None
        return AccessToken(token=digest, client_id=digest, scopes=[])


class NoCaller(Exception):
    """A request came from nobody who is known."""


def who_by(tokens: Tokens) -> Any:
    """Who asks, by the token of the request."""

    def who(context: Context) -> Principal:
        user = None if context.request is None else context.request.scope.get("user")
        principal = (
            tokens.of_digest(user.access_token.client_id) if isinstance(user, AuthenticatedUser) else None
        )
        if principal is None:  # the token was withdrawn between the request's head and here
            raise NoCaller("the token is known no more")
        return principal

    return who


@asynccontextmanager
async def serve_http(server: Server[Any], tokens: Tokens, options: HttpOptions) -> AsyncIterator[str]:
    """Serve until the block ends; the URL. Raises: RemitError `usage.invalid` where it cannot be listened on."""
    listener = listen(options.host, options.port)
    port = listener.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    hosts = [f"{name}:{port}" for name in (host, *(LOOPBACK if host in LOOPBACK else ()))]
    hosts += [name if ":" in name.rpartition("]")[2] else f"{name}:{port}" for name in options.names]
    hosts += [name for name in options.names if ":" not in name]
    manager = StreamableHTTPSessionManager(
        app=server,
        security_settings=TransportSecuritySettings(
            allowed_hosts=hosts,
            allowed_origins=[f"{scheme}://{one}" for one in hosts for scheme in ("http", "https")],
        ),
        session_idle_timeout=options.idle_s,
        max_request_body_size=options.body_bytes_max,
        max_sessions=options.sessions_max,
    )
    application = Starlette(
        routes=[Route(PATH, RequireAuthMiddleware(StreamableHTTPASGIApp(manager), []))],
        middleware=[Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(_Verifier(tokens)))],
    )
    serving = ServingOptions(drain_s=DRAIN_S, connections_max=options.connections_max)
    async with manager.run(), served(application, listener, serving):
        yield f"http://{host}:{port}{PATH}"
