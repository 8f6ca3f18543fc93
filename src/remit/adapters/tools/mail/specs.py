"""The declarations of a mail server's tools. Opens nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from remit.adapters.tools.mail.address import RECIPIENT, SUBJECT
from remit.core.canonical import digest
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import MailToolset
from remit.governance.toolsets.mail import TemplateSection

FILES_MAX = 10
_HOLE = re.compile(r"\{\{\s*([a-z][a-z0-9_]*)\s*\}\}")
_TO = {"type": "string", "maxLength": 254, "pattern": RECIPIENT}


def declare_mail(name: str, section: MailToolset) -> Declared:
    """A tool for each template, and `send_<name>`. Raises: RemitError `config.invalid`."""
    if (section.url_env is None) == (section.maildir is None):
        raise RemitError("config.invalid", "mail goes to a url_env or a maildir, and not to both")
    if not re.fullmatch(RECIPIENT, section.sender):
        raise RemitError("config.invalid", "the sender is not one plain email address")
    files = _files(section)
    specs = [_template_spec(key, template, files) for key, template in section.templates.items()]
    if section.free:
        free: Mapping[str, Any] = {
            "to": _TO,
            "subject": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": SUBJECT},
            "body": {"type": "string", "minLength": 1, "maxLength": 20_000},
        }
        spec = _spec(f"send_{name}", "Send a plain-text email to one address. Cannot be undone.", free, files)
        specs.append(section.tool.applied(spec))
    return Declared(tuple(specs), digest(b""))


def filled(text: str, values: Mapping[str, object]) -> str:
    """`text` with the arguments in its holes; what stands in an argument is not looked at again."""
    return _HOLE.sub(lambda hole: str(values[hole[1]]), text)


def _holes(template: TemplateSection) -> Iterator[str]:
    for text in (template.subject, template.body):
        yield from _HOLE.findall(text)


def _template_spec(name: str, template: TemplateSection, files: Mapping[str, Any]) -> ToolSpec:
    holes = set(_holes(template))
    for argument in sorted(holes ^ template.args.keys()):
        problem = "no argument of that name" if argument in holes else "an argument that it does not use"
        raise RemitError("config.invalid", f"the template {name} has {problem}: {argument}")
    if "to" in template.args:
        raise RemitError("config.invalid", f"the template {name} has the argument to already")
    return template.tool.applied(_spec(name, template.description, {"to": _TO, **template.args}, files))


def _files(section: MailToolset) -> Mapping[str, Any]:
    if section.attachments is None:
        return {}
    path = {"type": "string", "minLength": 1, "maxLength": 300}
    told = f"Files to attach, by their path in {section.attachments.folder}."
    return {"attachments": {"type": "array", "items": path, "maxItems": FILES_MAX, "description": told}}


def _spec(name: str, description: str, required: Mapping[str, Any], files: Mapping[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=description,
        args_schema={
            "type": "object",
            "properties": {**required, **files},
            "required": list(required),
            "additionalProperties": False,
        },
        effect="write",
        idempotency="at_most_once",
        result_trust="trusted",
        rate_group="emails",
        timeout_s=30.0,
    )
