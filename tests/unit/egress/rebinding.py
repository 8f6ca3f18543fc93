"""A name that leads elsewhere at every question, asked through the system's own resolver. A program of its own.

It makes a network of its own (`unshare`, which needs no rights where the machine permits it), in which the name server
is this one. Its argument is `naive` or `door`: who asks. It prints what came of each request, and how often the witness
on loopback was reached.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

from remit.adapters.egress.door import Closed, Door, NotSent, Policy, Sending, system_addresses

OUTER, INNER = "93.184.215.14", "127.0.0.1"
MS_BIND = 4096
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def enter(name_server: str) -> None:
    """Have loopback and a name server in this network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    libc = ctypes.CDLL(None, use_errno=True)
    for text, path in (
        (f"nameserver {name_server}\n", "/etc/resolv.conf"),
        ("hosts: dns\n", "/etc/nsswitch.conf"),
    ):
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write(text)
        if libc.mount(file.name.encode(), str(Path(path).resolve()).encode(), None, MS_BIND, None):
            raise OSError(ctypes.get_errno(), f"{path} cannot be covered")
        Path(file.name).unlink()


class NameServer:
    """Answers over UDP: to each question for an address with the next of those given, to live no time at all."""

    def __init__(self, answers: list[tuple[str, ...]]) -> None:
        self.answers = answers
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((INNER, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            asked, sender = self._socket.recvfrom(512)
            end = asked.index(b"\0", 12) + 5
            (kind,) = struct.unpack_from("!H", asked, end - 4)
            found: tuple[str, ...] = ()
            if kind == 1:  # A; of AAAA there are none
                found = self.answers[min(self.asked, len(self.answers) - 1)]
                self.asked += 1
            head = asked[:2] + struct.pack("!5H", 0x8580, 1, len(found), 0, 0)
            records = b"".join(
                struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(one) for one in found
            )
            self._socket.sendto(head + asked[12:end] + records, sender)


async def naive(host: str, port: int) -> str:
    """Look at the addresses of a name, then connect to the name."""
    if INNER in await system_addresses(host, port):
        return "refused"
    reader, writer = await asyncio.open_connection(host, port)
    await reader.readline()  # it has been reached
    writer.close()
    return "sent"


async def through_the_door(host: str, port: int) -> str:
    """As this product asks."""
    door = Door(Policy(hosts=(host,), ports=frozenset({port})))
    try:
        await door.send(Sending(method="GET", url=f"http://{host}:{port}/"), 2.0)
    except Closed:
        return "refused"
    except NotSent:
        return "not sent"
    finally:
        await door.close()
    return "sent"


async def main() -> None:
    enter(INNER)
    reached = 0

    async def witness(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    names = NameServer([(OUTER,), (INNER,), (OUTER, INNER), (INNER, OUTER), (OUTER,), (INNER,)])
    server = await asyncio.start_server(witness, INNER, 0)
    port = server.sockets[0].getsockname()[1]
    ask = {"naive": naive, "door": through_the_door}[sys.argv[1]]
    came = [await ask("rebinding.test", port) for _ in range(1 if ask is naive else 6)]
    print(", ".join(came), "| asked", names.asked, "| reached", reached)
    server.close()


asyncio.run(main())
