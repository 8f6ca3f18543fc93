"""Reads a URL in the one way in which it is then used. What two readers could take for two things is refused."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import idna

URL_CHARS_MAX = 8_000
_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_PORTS = {"http": 80, "https": 443}


class BadUrl(ValueError):
    """A URL that is not used. Its message says why, without the URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL, read. `host` is lower case, without a trailing dot; of IPv6 without brackets. `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """As it stands in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(url: str) -> Target:
    """The target of an absolute http or https URL; its fragment is left out. Raises: BadUrl."""
    if len(url) > URL_CHARS_MAX:
        raise BadUrl("it is too long")
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in url):
        raise BadUrl("it holds white space, a control character or a backslash")
    match = _URL.match(url)
    if match is None or match["scheme"].lower() not in _PORTS:
        raise BadUrl("it is no absolute http or https URL")
    scheme, authority = match["scheme"].lower(), match["authority"]
    if "@" in authority:
        raise BadUrl("it holds a user name")
    host, port = _host_and_port(authority)
    path = (match["path"] or "/") + (match["query"] or "")
    if not path.isascii():
        raise BadUrl("its path is not ASCII")
    return Target(scheme=scheme, host=host, port=_PORTS[scheme] if port is None else port, path=path)


def read_host(name: str) -> str:
    """A host as `Target.host` has it. Raises: BadUrl."""
    if "%" in name:
        raise BadUrl("its host is escaped")
    if name.startswith("["):
        if not name.endswith("]"):
            raise BadUrl("its host is no address")
        try:
            return str(ipaddress.IPv6Address(name[1:-1]))
        except ValueError as error:
            raise BadUrl("its host is no address") from error
    host = name.lower() if name.isascii() else _ascii(name)
    host = host.removesuffix(".")
    if not _HOST.fullmatch(host):
        raise BadUrl("its host is no name")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(ipaddress.IPv4Address(host))  # in its one plain form alone
        except ValueError as error:
            raise BadUrl("its host is a number in disguise") from error
    return host


def _host_and_port(authority: str) -> tuple[str, int | None]:
    name, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return read_host(authority), None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise BadUrl("its port is no port")
    return read_host(name), int(port)


def _ascii(name: str) -> str:
    try:
        return idna.encode(name, uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise BadUrl("its host is no name") from error
