"""Who a bearer token stands for: a file of digests, so that nobody who reads it has a token.

It is read again when it has changed. While it cannot be read, nobody is known.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from remit.core.actions import Principal
from remit.core.errors import RemitError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FILE_BYTES_MAX = 1_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Known(_Strict):
    """A token's digest, and for whom it stands."""

    sha256: Digest
    id: Name
    kind: Literal["user", "service", "agent"] = "user"
    tenant: Name = "default"
    roles: list[Name] = []

    @property
    def principal(self) -> Principal:
        """For whom."""
        return Principal(kind=self.kind, id=self.id, tenant=self.tenant, roles=tuple(self.roles))


class _File(_Strict):
    tokens: list[Known]


def digest_of(token: str) -> str:
    """The SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def read_tokens(path: Path) -> Mapping[str, Principal]:
    """For whom each digest stands. Raises: RemitError `config.missing`, `config.invalid`."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise RemitError(
            "config.missing", f"the file of tokens {path} cannot be read", cause=str(error)
        ) from error
    try:
        if len(content) > FILE_BYTES_MAX:
            raise ValueError("it is too long")
        known = _File.model_validate_json(content).tokens
    except ValidationError as error:
        # what stands there may be a token that somebody has written by mistake: no value is told
        (first, *_) = error.errors(include_input=False, include_url=False)
        cause = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise RemitError("config.invalid", f"{path} is no file of tokens", cause=cause) from None
    except ValueError as error:
        raise RemitError("config.invalid", f"{path} is no file of tokens", cause=str(error)) from error
    return {one.sha256: one.principal for one in known}


def add_token(path: Path, token: str, principal: Principal) -> None:
    """Have a token known from now on. Raises: as `read_tokens`; RemitError `usage.invalid` for a name that is none."""
    known = dict(read_tokens(path)) if path.exists() else {}
    known[digest_of(token)] = principal
    tokens = [
        {"sha256": digest, "id": one.id, "kind": one.kind, "tenant": one.tenant, "roles": list(one.roles)}
        for digest, one in known.items()
    ]
    try:
        _File.model_validate({"tokens": tokens})
    except ValidationError as error:
        raise RemitError(
            "usage.invalid", "a name, role or tenant is no name", remedy="use letters, digits and . _ @ + -"
        ) from error
    content = orjson.dumps({"tokens": tokens}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        os.replace(draft, path)
    except OSError as error:
        raise RemitError("config.missing", f"{path} cannot be written", cause=str(error)) from error


class Tokens:
    """The file, as it stands."""

    def __init__(self, path: Path) -> None:
        """Raises: as `read_tokens`."""
        self._path = path
        self._seen = self._stamp()
        self._known = read_tokens(path)

    def of_digest(self, digest: str) -> Principal | None:
        """For whom the token of this digest stands now; None where nobody knows."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._known = read_tokens(self._path)
            except RemitError:
                self._known = {}
        return self._known.get(digest)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
