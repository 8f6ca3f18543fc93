"""The parts that the support desk works with, on this machine's loopback alone: a CRM, PostgreSQL, and a mail server.

    eval "$(python examples/desk/parts.py --detach)"    # what the agent is told of them, in the environment
    kill $DESK_PARTS_PID                                # ends them all

Needs Remit's development packages (`make setup`), among them PostgreSQL's programs. Letters lie in --mail FOLDER.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

from remit.testing.postgres_server import postgres_server

HERE = Path(__file__).parent
KEY = "demo-key"


@contextmanager
def crm() -> Iterator[str]:
    """The URL of the service of the CRM example."""
    command = [sys.executable, str(HERE.parent / "crm" / "service.py"), "--port", "0", "--key", KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - a program of ours
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@contextmanager
def database() -> Iterator[str]:
    """The URL of the charges, for the role that may only read them."""
    with postgres_server("fsync=off") as server:
        with psycopg.connect(server.url()) as connection:
            connection.execute((HERE / "database.sql").read_bytes())
        yield server.url().replace("postgres@", "desk_reader@", 1)


async def serve(mail: Path) -> None:
    """All parts, until a signal; what the agent is told of them goes to the standard output, as one line of JSON."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    with crm() as crm_url, database() as database_url:
        server = await loop.create_server(lambda: SMTP(Mailbox(str(mail))), "127.0.0.1", 0)
        async with server:
            told = {
                "CRM_URL": crm_url,
                "CRM_KEY": KEY,
                "DESK_DATABASE_URL": database_url,
                "DESK_SMTP_URL": f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                "DESK_PARTS_PID": str(os.getpid()),
            }
            print(json.dumps(told), flush=True)
            await ended.wait()


def exports(told: Mapping[str, str]) -> str:
    """What a shell takes into its environment."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in told.items())


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mail", type=Path, default=Path(tempfile.gettempdir()) / "desk-mail")
    parser.add_argument("--detach", action="store_true", help="go on in the background, and print exports")
    given = parser.parse_args()
    if not given.detach:
        asyncio.run(serve(given.mail))
        return
    command = [sys.executable, __file__, "--mail", str(given.mail)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 - as above
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit("the parts could not be started")
    print(exports(json.loads(line)))


if __name__ == "__main__":
    main()
