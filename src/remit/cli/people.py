"""Who types a command. The operating system says it, or the person does: nothing here authenticates anybody."""

from __future__ import annotations

import os
import pwd
import re

import click

from remit.core.actions import Principal
from remit.core.errors import RemitError

PRINCIPAL = "REMIT_PRINCIPAL"
ROLES = "REMIT_ROLES"
TENANT = "REMIT_TENANT"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")

as_option = click.option(
    "--as",
    "as_name",
    metavar="NAME",
    help=f"Who decides ({PRINCIPAL}, else the user of the operating system). Roles: {ROLES}=a,b.",
)
reason_option = click.option("--reason", required=True, help="Why; it is recorded.")


def person(as_name: str | None = None) -> Principal:
    """Whoever types: a name given, REMIT_PRINCIPAL or the operating system's user, with the roles of REMIT_ROLES.

    Raises: RemitError `usage.invalid`.
    """
    environment = os.environ
    name = as_name or environment.get(PRINCIPAL) or _user()
    roles = [role.strip() for role in environment.get(ROLES, "").split(",") if role.strip()]
    for text in (name, *roles):
        _check_name(text)
    return Principal(kind="user", id=name, tenant=tenant(), roles=tuple(roles))


def tenant() -> str:
    """Whose the work of this deployment is: REMIT_TENANT. Raises: RemitError `usage.invalid`."""
    name = os.environ.get(TENANT) or "default"
    _check_name(name)
    return name


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        remedy = "use letters, digits and . _ @ + -"
        raise RemitError("usage.invalid", f"{text[:80]!r} is no name", remedy=remedy)


def _user() -> str:
    """Who runs this, as the operating system says; a number where it has no name for it."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"
