"""The section of an HTTP service: which of its operations are tools, and who is asked with which credentials."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from remit.governance.fields import EnvName, Section, Text, ToolName
from remit.governance.toolsets.override import ToolOverride

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
Host = Annotated[
    str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$|^[0-9a-f:]+$", max_length=253)
]
OneHost = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*$|^[0-9a-f:]+$", max_length=253)
]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
OperationName = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class AuthSection(Section):
    """Credentials, from an environment variable, sent to the service's own origin alone. One of the four."""

    bearer_env: EnvName | None = None
    header: HeaderName | None = Field(
        default=None, description="With header_env: a header with the key in it."
    )
    header_env: EnvName | None = None
    basic_env: EnvName | None = Field(default=None, description="USER:PASSWORD.")
    query: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None, description="With query_env: a parameter with the key in it."
    )
    query_env: EnvName | None = None


class PagesSection(Section):
    """How a list goes on over several answers; they are put together up to max_records_per_query."""

    items: Text = Field(description="The field of an answer that holds its records; a dotted path.")
    next_url: Text | None = Field(default=None, description="The field with the URL of the next page.")
    cursor: Text | None = Field(
        default=None, description="The field with a cursor, given on as cursor_param."
    )
    cursor_param: Text | None = None
    page_param: Text | None = Field(default=None, description="The parameter that counts pages, from 1.")


class OperationSection(Section):
    """One operation that is a tool."""

    name: ToolName | None = Field(
        default=None,
        description="The tool's name; the operation's by default, with _ for what no name may hold.",
    )
    method: Method | None = Field(default=None, description="Without an OpenAPI document: the method.")
    path: Text | None = Field(default=None, description="Without one: the path, such as /customers/{id}.")
    args: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Without one: the JSON Schema of each argument. What is not in the path goes into the query, or into "
        "the JSON body of a method that has one.",
    )
    optional: list[Text] = Field(
        default_factory=list, max_length=100, description="Without one: the arguments that may be left out."
    )
    idempotency_header: HeaderName | None = Field(
        default=None, description="The header that takes a key, by which the service does a thing once."
    )
    pages: PagesSection | None = None
    tool: ToolOverride = ToolOverride()


class HttpToolset(Section):
    """An HTTP service with JSON. What is neither listed in `operations` nor `free` is no tool."""

    kind: Literal["http"]
    openapi: Text | None = Field(
        default=None, description="The OpenAPI document (3.0 or 3.1; JSON or YAML), relative to this file."
    )
    url: Text | None = Field(
        default=None, description="The address of the service, such as https://api.example.com/v1."
    )
    url_env: EnvName | None = Field(default=None, description="Or the environment variable that holds it.")
    operations: dict[OperationName, OperationSection] = Field(
        default_factory=dict,
        max_length=2_000,
        description="By operationId of the document (or, without one, such as `get /things`), or by a name of yours.",
    )
    free: list[Method] = Field(
        default_factory=list,
        max_length=6,
        description="Methods of the tool request_<name>, which sends any request below the service's address.",
    )
    tool: ToolOverride = Field(default=ToolOverride(), description="Of request_<name>.")
    auth: AuthSection | None = None
    hosts: list[Host] = Field(
        default_factory=list,
        max_length=100,
        description="Hosts, beside the service's own, to which reads may be redirected, at port 443.",
    )
    inner_hosts: list[OneHost] = Field(
        default_factory=list,
        max_length=100,
        description="Hosts that are in a network of yours or on this machine: others of the open internet alone are reached.",
    )
    response_bytes_max: int = Field(default=1_000_000, ge=1_000, le=50_000_000)
