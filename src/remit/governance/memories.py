"""What an agent may remember, and what it is shown of it: pure decisions over entries.

What is kept carries the labels of all that its writer had seen; what a remit does not allow to be seen is withheld.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from remit.core import memory
from remit.core.actions import MemoryWrite
from remit.core.canonical import Json
from remit.core.labels import DATA_CLASSES, DataClass, ResultLabel
from remit.core.memory import Entry, EntryRole, Kept, Limits, Scope, Seen
from remit.core.runs import Run
from remit.governance.schema import MemorySection
from remit.ports.memory import Keep

NOTE_TOOLS = ("remember", "recall")
_DAY_US = 86_400_000_000
_ENTRIES_MAX = 100_000
_SCOPE_RULE = "memory.bytes_max"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGrant:
    """What an agent may remember. Times in microseconds; `kept`: the classes of data that may be kept."""

    sessions: bool
    notes: bool
    kept: frozenset[DataClass]
    session_ttl_us: int
    note_ttl_us: int
    session_tokens_max: int
    note_bytes_max: int
    session_limits: Limits
    note_limits: Limits


def memory_grant(section: MemorySection) -> MemoryGrant | None:
    """What a section of the file grants; None where it is nothing."""
    if not (section.sessions or section.notes):
        return None
    sizes = (_ENTRIES_MAX, section.session_bytes_max, section.bytes_max)
    notes_bytes_max = section.notes_max * section.note_bytes_max
    return MemoryGrant(
        sessions=section.sessions,
        notes=section.notes,
        kept=frozenset(("public", *section.keep_classes)),
        session_ttl_us=section.session_ttl_days * _DAY_US,
        note_ttl_us=section.note_ttl_days * _DAY_US,
        session_tokens_max=section.session_tokens_max,
        note_bytes_max=section.note_bytes_max,
        session_limits=Limits(*sizes, ("its limit of entries", "memory.session_bytes_max", _SCOPE_RULE)),
        note_limits=Limits(
            section.notes_max,
            notes_bytes_max,
            section.bytes_max,
            ("memory.notes_max", "memory.note_bytes_max", _SCOPE_RULE),
        ),
    )


class SessionRead(NamedTuple):
    """What was read of a session: as it is shown, its label, and the bytes from which it is read again the same."""

    shown: Json
    label: ResultLabel
    result: bytes


def session_read(kept: Sequence[Kept], denied: Collection[DataClass], at_us: int) -> SessionRead:
    """What an agent is shown of a session. What is of a class in `denied` is withheld, and it is said."""
    entries, classes, is_exposed = [], set[DataClass](), False
    for seq, entry in kept:
        withheld = [name for name in entry.classes if name in denied]
        text = f"[remit: not shown to this agent: {', '.join(withheld)} data]" if withheld else entry.text
        if not withheld:
            classes.update(entry.classes)
            is_exposed |= entry.trust == "untrusted"
        entries.append({"seq": seq, "role": entry.role, "text": text})
    label = ResultLabel(
        call_id="",
        tool="session",
        trust="untrusted" if is_exposed else "trusted",
        classes=tuple(name for name in DATA_CLASSES if name in classes),
        digest=memory.digest_of(kept),
    )
    last = max((one.seq for one in kept), default=0)
    result = {"at": at_us, "last": last, "digest": label.digest, "classes": label.classes}
    return SessionRead({"entries": entries}, label, orjson.dumps(result))


def to_keep(action: MemoryWrite, run: Run, grant: MemoryGrant, seen: Seen, at_us: int) -> Keep:
    """What `action` keeps: its texts, labelled by all that the run has been shown."""
    args = action.args_value()
    texts: list[tuple[EntryRole, str]]
    if "summary" in args:
        texts = [("summary", args["summary"])]
    else:
        texts = [("user", args["task"]), ("assistant", args["answer"])]
    entries = tuple(
        Entry(
            key=f"{run.id}/{role}" + (f"/{args['covers']}" if role == "summary" else ""),
            role=role,
            text=text,
            # what the principal gave is the principal's own, whatever the run saw afterwards
            classes=() if role == "user" else seen.ordered,
            trust="trusted" if role == "user" else seen.trust,
            source=run.id,
            subject=run.principal.on_behalf_of or run.principal.id,
            at_us=at_us,
            expires_at_us=at_us + grant.session_ttl_us,
            covers=args.get("covers", 0),
        )
        for role, text in texts
    )
    scope = Scope(run.tenant, run.agent)
    return Keep(scope, memory.session_list(args["session"]), entries, grant.session_limits, run.created_at_us)
