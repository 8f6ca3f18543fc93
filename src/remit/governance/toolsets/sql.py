"""The section of a database: which tables there are, named queries, and whether a model may write SELECTs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from remit.core.labels import DataClass
from remit.governance.fields import EnvName, Section, Text, ToolName
from remit.governance.toolsets.override import ToolOverride

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
TableName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$")]


def _no_namesakes(tables: dict[str, Any]) -> dict[str, Any]:
    names = [name.rpartition(".")[2] for name in tables]
    for name in names:
        if names.count(name) > 1:
            raise PydanticCustomError(
                "named_twice", "must have one table named {name}, of whatever schema", {"name": name}
            )
    return tables


class QuerySection(Section):
    """A query of yours, which a tool runs with the arguments of a call as parameters, never as text."""

    description: Text = Field(description="What the model is told of it.")
    sql: Text = Field(description="One statement; `:name` stands for the argument of that name.")
    args: dict[Identifier, dict[str, Any]] = Field(
        default_factory=dict, max_length=50, description="The JSON Schema of each argument."
    )
    tool: ToolOverride = ToolOverride()


class SqlToolset(Section):
    """A database. What is not listed in `tables` is not there for free SQL."""

    kind: Literal["sql"]
    url_env: EnvName | None = Field(
        default=None,
        description="The environment variable that holds its address, postgresql://USER@HOST/DATABASE.",
    )
    file: Text | None = Field(default=None, description="Or a file of SQLite, relative to this one.")
    tables: Annotated[dict[TableName, dict[Identifier, DataClass]], AfterValidator(_no_namesakes)] = Field(
        default_factory=dict,
        max_length=1_000,
        description="The tables and columns that there are, with the class of each column's data.",
    )
    queries: dict[ToolName, QuerySection] = Field(
        default_factory=dict, max_length=1_000, description="Each is a tool of that name."
    )
    free: bool = Field(
        default=False,
        description="Whether there is a tool query_<name> that runs one SELECT over the tables.",
    )
    denied_columns: Literal["refuse", "mask"] = Field(
        default="refuse",
        description="Whether a free query that names a column of a class that is denied is refused, or reads null.",
    )
    tool: ToolOverride = Field(default=ToolOverride(), description="Of query_<name>.")
