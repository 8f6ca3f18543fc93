"""A small CRM with tickets over HTTP: what the example agent is given as tools, and a pattern for services of your own.

    python examples/crm/service.py --port 8099 --key demo-key

Data are in memory. A key is asked for in the header X-Api-Key; POST /tickets takes an Idempotency-Key and makes one
ticket for it, however often it is sent. --fault says what goes wrong with the next requests, one each: `busy` (503, nothing
is done), `lost` (it is done, and the answer breaks off), `slow` (it is done after five seconds).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DOCUMENT = Path(__file__).parent / "openapi.json"
PLANS = ("free", "pro", "team")


@dataclass
class Crm:
    """The data, and the key that is asked for."""

    key: str
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tickets: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    slow_s: float = 5.0

    def app(self) -> ASGIApp:
        """The service."""
        routes = [
            Route("/health", self.health),
            Route("/openapi.json", self.document),
            Route("/customers", self.list_customers),
            Route("/customers/{id}", self.get_customer),
            Route("/tickets", self.create_ticket, methods=["POST"]),
            Route("/tickets", self.list_tickets),
            Route("/tickets/{id}", self.close_ticket, methods=["DELETE"]),
        ]
        return self.faulty(Starlette(routes=routes))

    def faulty(self, app: ASGIApp) -> ASGIApp:
        """The service, with what is to go wrong with its next requests."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self.faults.pop(0) if self.faults and scope["path"] != "/health" else ""
            if fault == "busy":
                await JSONResponse({"error": "busy"}, 503)(scope, receive, send)
                return
            if fault == "slow":
                await asyncio.sleep(self.slow_s)
            await app(scope, receive, self.cut_off(send) if fault == "lost" else send)

        return serve

    def cut_off(self, send: Send) -> Send:
        """Sends the beginning of an answer, and no end: the connection breaks."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message | {"headers": [(b"content-length", b"1000000")]})
            elif message["type"] == "http.response.body":
                await send({"type": "http.response.body", "body": b"{", "more_body": True})

        return sent

    def refused(self, request: Request) -> Response | None:
        """The answer to a request without the key."""
        if request.headers.get("x-api-key") == self.key:
            return None
        return JSONResponse({"error": "a key is needed"}, 401)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "customers": len(self.customers), "tickets": len(self.tickets)})

    async def document(self, _: Request) -> Response:
        return Response(DOCUMENT.read_bytes(), media_type="application/json")

    async def list_customers(self, request: Request) -> Response:
        refused = self.refused(request)
        if refused:
            return refused
        plan, cursor = request.query_params.get("plan"), request.query_params.get("cursor", "0")
        if not cursor.isdecimal():
            return JSONResponse({"error": "no such cursor"}, 400)
        start = int(cursor)
        found = [one for one in self.customers.values() if plan in (None, one["plan"])]
        page = found[start : start + 10]
        onward = str(start + 10) if start + 10 < len(found) else None
        return JSONResponse({"customers": page, "next": onward})

    async def get_customer(self, request: Request) -> Response:
        refused = self.refused(request)
        if refused:
            return refused
        customer = self.customers.get(request.path_params["id"])
        return JSONResponse(customer) if customer else JSONResponse({"error": "no such customer"}, 404)

    async def create_ticket(self, request: Request) -> Response:
        refused = self.refused(request)
        if refused:
            return refused
        given = await request.json()
        if not isinstance(given, dict) or not {"customer_id", "issue"} <= given.keys():
            return JSONResponse({"error": "a ticket has a customer_id and an issue"}, 422)
        if given["customer_id"] not in self.customers:
            return JSONResponse({"error": "no such customer"}, 404)
        key = request.headers.get("idempotency-key", "")
        if key in self.by_key:
            return JSONResponse(self.tickets[self.by_key[key]], 200)
        ticket = {"id": f"T-{len(self.tickets) + 1}", "status": "open", **given}
        self.tickets[ticket["id"]] = ticket
        if key:
            self.by_key[key] = ticket["id"]
        return JSONResponse(ticket, 201)

    async def list_tickets(self, request: Request) -> Response:
        customer = request.query_params.get("customer_id")
        found = [one for one in self.tickets.values() if customer in (None, one["customer_id"])]
        return self.refused(request) or JSONResponse({"tickets": found})

    async def close_ticket(self, request: Request) -> Response:
        refused = self.refused(request)
        if refused:
            return refused
        ticket = self.tickets.get(request.path_params["id"])
        if ticket is None:
            return JSONResponse({"error": "no such ticket"}, 404)
        ticket["status"] = "closed"
        return JSONResponse(ticket)


def new_crm(key: str) -> Crm:
    """A CRM with 30 customers."""
    customers = {}
    for number in range(1, 31):
        name = f"C-{1000 + number}"
        customers[name] = {
            "id": name,
            "name": f"Customer {number}",
            "email": f"customer{number}@example.com",
            "plan": PLANS[number % 3],
        }
    return Crm(key=key, customers=customers)


def main() -> None:
    """Serve on 127.0.0.1; the address is printed as JSON once requests are taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--key", default="demo-key")
    parser.add_argument("--fault", action="append", choices=("busy", "lost", "slow"), default=[])
    given = parser.parse_args()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            port = self.servers[0].sockets[0].getsockname()[1]
            print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)

    crm = new_crm(given.key)
    crm.faults += given.fault
    Server(uvicorn.Config(crm.app(), host="127.0.0.1", port=given.port, log_level="warning")).run()


if __name__ == "__main__":
    main()
