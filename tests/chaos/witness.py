"""A mail server in a process of its own that notes each mail it takes: what happened in the world, told by nobody of ours.

`python -m tests.chaos.witness FILE` prints its port, and appends a line of JSON to FILE for each mail, before it says yes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from email import message_from_bytes
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

DELAY_MS_MAX = 900


class Handler:
    """Notes mails, a moment after they came, and answers a moment after that, so that a process can die in between."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.original_content or b"")
        subject = str(message["Subject"])
        delay_s = zlib.crc32(subject.encode()) % DELAY_MS_MAX / 1000
        await asyncio.sleep(delay_s)
        with self._path.open("a") as file:
            file.write(json.dumps({"subject": subject, "to": envelope.rcpt_tos}) + "\n")
        await asyncio.sleep(DELAY_MS_MAX / 1000 - delay_s)
        return "250 OK"


async def main() -> None:
    handler = Handler(Path(sys.argv[1]))
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
