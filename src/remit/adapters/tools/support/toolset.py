"""The support toolset: five tools on embedded stores, behind the port of tool hosts.

Nothing blocks the event loop: stores and mail are used in threads that the toolset owns, and a
cancelled call interrupts its query.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.knowledge.pages import KnowledgeBase, Source
from remit.adapters.tools.mail.address import RECIPIENT
from remit.adapters.tools.mail.letters import Letter, Maildir, Smtp, Transport, message_id, parse_smtp_url
from remit.adapters.tools.support.imports import CustomerData, import_data, import_nothing
from remit.adapters.tools.support.settings import MAILDIR, SupportSettings
from remit.adapters.tools.support.specs import support_specs
from remit.adapters.tools.support.sql import read_customer, run_query
from remit.adapters.tools.support.tickets import Tickets
from remit.adapters.tools.threads import ThreadedTools, Work
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.ports.effects import CallContext
from remit.ports.services import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    kb: KnowledgeBase
    data: CustomerData
    tickets: Tickets
    mail: Transport


def open_support(
    settings: SupportSettings, clock: Clock, *, environment: Mapping[str, str] | None = None
) -> SupportToolset:
    """The toolset of `settings`, with its index and data brought up to date. Blocks; opens no connection.

    `environment` gives REMIT_SMTP_USER and REMIT_SMTP_PASSWORD; the process's own by default.
    Raises: RemitError `toolset.unavailable`.
    """
    stores = settings.stores
    if not re.fullmatch(RECIPIENT, settings.sender):
        raise RemitError("toolset.unavailable", "the sender is not one plain email address")
    try:
        stores.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RemitError("toolset.unavailable", f"{stores} cannot be made", cause=str(error)) from error
    notices = []
    mail: Transport
    if settings.mail == MAILDIR:
        mail = Maildir(stores / "outbox")
    else:
        mail = Smtp(parse_smtp_url(settings.mail, os.environ if environment is None else environment))
    if not settings.kb.is_dir():
        notices.append(f"{settings.kb} is not there: search_kb finds nothing")
    if settings.data.is_dir():
        data = import_data(settings.data, stores)
    else:
        notices.append(f"{settings.data} is not there: there are no customers and no tables")
        data = import_nothing(stores)
    kb = KnowledgeBase((Source(folder=settings.kb),), stores / "kb.db", clock)
    parts = _Parts(kb=kb, data=data, tickets=Tickets(stores / "tickets.db", clock), mail=mail)
    return SupportToolset(parts, settings.sender, clock, tuple(notices))


class SupportToolset(ThreadedTools):
    """A `ToolHost` of the five support tools. Make it with `open_support`, and close it."""

    def __init__(self, parts: _Parts, sender: str, clock: Clock, notices: tuple[str, ...]) -> None:
        self._parts = parts
        self._sender = sender
        work: Mapping[str, Work] = {
            "search_kb": self._search_kb,
            "get_customer": self._get_customer,
            "create_ticket": self._create_ticket,
            "send_email": self._send_email,
            "run_sql_query": self._run_sql_query,
        }
        super().__init__("support", work, support_specs(parts.data.tables), clock)
        self.notices = notices

    async def close(self) -> None:
        """Interrupt what is running, wait for the threads, and let go of the stores."""
        await super().close()
        self._parts.tickets.close()

    def _search_kb(self, args: Json, context: CallContext, deadline: Deadline) -> Json:
        return self._parts.kb.search(args["query"], context.constraints, deadline)

    def _get_customer(self, args: Json, context: CallContext, _deadline: Deadline) -> Json:
        return read_customer(self._parts.data, args["customer_id"], context.constraints)

    def _create_ticket(self, args: Json, context: CallContext, _deadline: Deadline) -> Json:
        return self._parts.tickets.create(args["customer_id"], args["issue"], args["priority"], context)

    def _send_email(self, args: Json, context: CallContext, deadline: Deadline) -> Json:
        letter = Letter(
            to=args["to"],
            subject=args["subject"],
            body=args["body"],
            sender=self._sender,
            key=context.idempotency_key,
            at_us=self._clock.now_us(),
        )
        self._parts.mail.send(letter, deadline)
        return {"sent": True, "message_id": message_id(letter)}

    def _run_sql_query(self, args: Json, context: CallContext, deadline: Deadline) -> Json:
        return run_query(self._parts.data, args["sql"], context.constraints, deadline)
