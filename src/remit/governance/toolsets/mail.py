"""The section of a mail server: who may be written to, templates, and whether a model may write in its own words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from remit.governance.fields import EnvName, Section, Text, ToolName
from remit.governance.toolsets.override import ToolOverride

RecipientPattern = Annotated[
    str,
    StringConstraints(
        max_length=254,
        pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._+-]{0,63})@(\*|(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)$",
    ),
]
ArgumentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class TemplateSection(Section):
    """A letter whose words are yours; a tool of its name sends it."""

    description: Text = Field(description="What the model is told of it.")
    subject: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    body: Text = Field(description="Plain text; {{ name }} stands for the argument of that name.")
    args: dict[ArgumentName, dict[str, Any]] = Field(
        default_factory=dict, max_length=50, description="The JSON Schema of each argument, beside `to`."
    )
    tool: ToolOverride = ToolOverride()


class AttachmentSection(Section):
    """Files that may go with a letter, named by their path in a folder."""

    folder: Text = Field(description="Relative to this file.")
    bytes_max: int = Field(default=5_000_000, ge=1, le=50_000_000, description="Of all files of one letter.")


class MailToolset(Section):
    """A mail server, and what may be sent by it."""

    kind: Literal["mail"]
    url_env: EnvName | None = Field(
        default=None,
        description="The environment variable with smtp://USER:PASSWORD@HOST:587?starttls=required or smtps://...",
    )
    maildir: Text | None = Field(
        default=None,
        description="Or a folder, relative to this file, into which letters are put and not sent.",
    )
    sender: Annotated[str, StringConstraints(min_length=3, max_length=254)] = Field(
        description="The address that letters come from."
    )
    recipients: list[RecipientPattern] = Field(
        min_length=1,
        max_length=1_000,
        description="Who may be written to: ana@example.com, *@example.com, *@*.example.com, or *@* for everybody.",
    )
    templates: dict[ToolName, TemplateSection] = Field(default_factory=dict, max_length=200)
    free: bool = Field(
        default=False, description="Whether there is a tool send_<name> for letters in the model's own words."
    )
    attachments: AttachmentSection | None = None
    tool: ToolOverride = Field(default=ToolOverride(), description="Of send_<name>.")
