"""Scripts: what a scripted model says and calls, turn by turn, in YAML, strict, errors with their line.

A script that could end before its last turn, or run past it, does not load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from remit.core.errors import RemitError
from remit.governance import source
from remit.governance.source import ConfigErrors
from remit.testing.model_server import references
from remit.testing.model_server.conversation import Failure, Fault

CODE = "script.invalid"
DEPTH_MAX = 8


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_FAULTS: Mapping[str, Literal["cut", "hang", "malformed", "error"]] = MappingProxyType(
    {
        "cut_after": "cut",
        "cut_after_bytes": "cut",
        "hang_after": "hang",
        "malformed_after": "malformed",
        "error_after": "error",
    }
)


class ScriptError(_Strict):
    """Fail `times` times, then go on. `body`: these very bytes instead of the protocol's error body.

    The `..._after` keys let the turn's answer begin and be billed, and then go wrong after so many pieces of
    its stream (`cut_after_bytes`: bytes); a whole answer goes wrong at once. At most one may stand.
    """

    status: int = Field(default=500, ge=200, le=599)
    type: str = ""
    message: str = "scripted error"
    code: str | None = None
    retry_after_s: int | None = Field(default=None, ge=0)
    retry_after_date: bool = False
    quota: bool = False
    times: int | Literal["always"] = 1
    body: str | None = None
    cut_after: int | None = Field(default=None, ge=0)
    cut_after_bytes: int | None = Field(default=None, ge=0)
    hang_after: int | None = Field(default=None, ge=0)
    malformed_after: int | None = Field(default=None, ge=0)
    error_after: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _is_one_thing(self) -> ScriptError:
        faults = [name for name in _FAULTS if getattr(self, name) is not None]
        if len(faults) > 1:
            raise ValueError(f"{' and '.join(faults)} exclude each other")
        if self.status < 400 and self.body is None:
            raise ValueError("a status below 400 is no error unless it has a body")
        if self.body is not None and faults:
            raise ValueError(f"body and {faults[0]} exclude each other")
        if self.times != "always" and self.times < 1:
            raise ValueError("times must be at least 1, or always")
        return self

    @property
    def failure(self) -> Failure:
        """The error to answer with. An exhausted quota is a 429 where no other status is given."""
        return Failure(
            status=429 if self.quota and "status" not in self.model_fields_set else self.status,
            type=self.type,
            message=self.message,
            code=self.code,
            retry_after_s=self.retry_after_s,
            retry_after_date=self.retry_after_date,
            quota=self.quota,
            body=self.body,
        )

    @property
    def fault(self) -> Fault | None:
        """What goes wrong with the turn's answer; None where there is none, but the `failure`."""
        for name, kind in _FAULTS.items():
            count = getattr(self, name)
            if count is not None:
                after_bytes = count if name == "cut_after_bytes" else None
                after = 0 if after_bytes is not None else count
                failure = self.failure if kind == "error" else None
                return Fault(kind=kind, after=after, after_bytes=after_bytes, failure=failure)
        return None


class ScriptCall(_Strict):
    """A tool call; texts within `args` may hold references."""

    tool: str = Field(min_length=1)
    args: Any = Field(default_factory=dict)

    @field_validator("args")
    @classmethod
    def _references_are_readable(cls, value: Any) -> Any:
        references.check(value)
        return value


class ScriptTerms(_Strict):
    """How the provider says it served an answer, and what it bills, in percent of its rates."""

    tier: str = Field(default="", pattern="^[a-z0-9_-]{0,32}$")
    geo: str = Field(default="", pattern="^[a-z0-9_-]{0,32}$")
    percent: int = Field(default=100, ge=0, le=10_000)


class Step(_Strict):
    """One answer of the model: a text, tool calls or both, `after` so many seconds.

    `say_json` is said as JSON text; `think` comes before the text; `refuse`: the model declines, and why;
    `drip_s` passes between the pieces of a stream; `sent_back`: the agent does not accept the answer;
    `served`: on what terms.
    """

    say: str = ""
    say_json: Any = None
    think: str = ""
    refuse: str | None = None
    call: list[ScriptCall] = []
    after: float = Field(default=0.0, ge=0, le=3600, strict=False)
    drip_s: float = Field(default=0.0, ge=0, le=60, strict=False)
    error: ScriptError | None = None
    sent_back: bool = False
    served: ScriptTerms = ScriptTerms()

    @model_validator(mode="after")
    def _does_something(self) -> Step:
        for value in (self.say, self.say_json, self.think, self.refuse):
            references.check(value)
        if self.say and self.say_json is not None:
            raise ValueError("say and say_json exclude each other")
        if self.call and self.refuse is not None:
            raise ValueError("a turn that refuses calls nothing")
        if self.call and self.sent_back:
            raise ValueError("a turn that calls a tool is no answer that could be sent back")
        fails = self.error is not None and self.error.times == "always"
        speaks = self.say or self.say_json is not None or self.refuse is not None
        if not speaks and not self.call and not fails:
            raise ValueError("a turn must say or call something, or always fail")
        return self

    @property
    def ends(self) -> bool:
        """Whether nothing can follow."""
        return not self.call and not self.sent_back


class Branch(_Strict):
    """The turns `then` where the condition holds, else the turns `else`; nothing follows a branch."""

    when: str
    then: list[Turn] = Field(min_length=1)
    otherwise: list[Turn] = Field(min_length=1, alias="else")

    @field_validator("when")
    @classmethod
    def _condition_is_readable(cls, value: str) -> str:
        references.check_path(value.removeprefix("not "))
        return value


def _turn_kind(value: Any) -> str:
    return "branch" if isinstance(value, Branch) or (isinstance(value, dict) and "when" in value) else "step"


Turn = Annotated[
    Annotated[Step, Tag("step")] | Annotated[Branch, Tag("branch")],
    Discriminator(_turn_kind),
]


class Script(_Strict):
    """One scripted model: used for tasks that `match` finds, or where nothing else does (`default`)."""

    name: str = Field(min_length=1)
    match: str | None = None
    default: bool = False
    turns: list[Turn] = Field(min_length=1)

    @field_validator("match")
    @classmethod
    def _pattern_compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Script:
        if (self.match is None) is not self.default:
            raise ValueError("a script has either match or default: true")
        _check_turns(self.turns, "turns", 0)
        return self


Branch.model_rebuild()
Script.model_rebuild()


def _check_turns(turns: Sequence[Step | Branch], place: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError(f"{place}: branches are nested deeper than {DEPTH_MAX}")
    for index, turn in enumerate(turns):
        last = index == len(turns) - 1
        here = f"{place}[{index}]"
        if isinstance(turn, Branch):
            if not last:
                raise ValueError(f"{here}: turns after a branch are never reached; put them into it")
            _check_turns(turn.then, f"{here}.then", depth + 1)
            _check_turns(turn.otherwise, f"{here}.else", depth + 1)
        elif turn.ends and not last:
            raise ValueError(
                f"{here}: a turn without a call ends the run; the turns after it are never reached"
                " (where the agent sends it back: sent_back: true)"
            )
        elif last and not turn.ends:
            raise ValueError(
                f"{here}: the last turn calls a tool or is sent back, so another turn must follow"
            )


def load_script(path: Path) -> Script:
    """The script in the YAML file at `path`. Raises: RemitError `script.invalid` with `file:line`."""
    try:
        return _script(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise RemitError(CODE, f"{path} cannot be read", cause=str(error)) from error


def load_scripts(folder: Path) -> tuple[Script, ...]:
    """Every `*.yaml` script in `folder`, by file name. Raises: RemitError `script.invalid`."""
    if not folder.is_dir():
        raise RemitError(CODE, f"{folder} is not a folder of scripts")
    return tuple(load_script(path) for path in sorted(folder.glob("*.yaml")))


def packaged_default() -> Script:
    """The script that answers where no other matches."""
    name = "default_script.yaml"
    return _script(files(__package__).joinpath(name).read_text(encoding="utf-8"), name)


def arrange(scripts: Sequence[Script]) -> tuple[Script, ...]:
    """`scripts` with the default last, the packaged one where they have none.

    Raises: RemitError `script.invalid` where a name or the default stands twice.
    """
    names: set[str] = set()
    for script in scripts:
        if script.name in names:
            raise RemitError(CODE, f"two scripts are called {script.name!r}")
        names.add(script.name)
    defaults = [script for script in scripts if script.default]
    if len(defaults) > 1:
        raise RemitError(CODE, f"two scripts are the default: {defaults[0].name!r}, {defaults[1].name!r}")
    matching = [script for script in scripts if not script.default]
    return (*matching, *(defaults or [packaged_default()]))


def _script(text: str, name: str) -> Script:
    try:
        document = source.read(text, name)
    except ConfigErrors as error:
        first = error.errors[0]
        place = f"{name}:{first.position.line}"
        raise RemitError(CODE, f"{place}: {first.message}", remedy=first.remedy) from error
    try:
        return Script.model_validate(_floats(document.value))
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = tuple(step for step in detail["loc"] if step not in ("step", "branch"))
        key = f"{path[-1]}: " if path else ""
        message = f"{document.place(path)}: {key}{detail['msg'].removeprefix('Value error, ')}"
        raise RemitError(CODE, message) from error


def _floats(value: Any) -> Any:
    """The document as JSON has it: a script's exact decimals become the floats that a model would send."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    return [_floats(item) for item in value] if isinstance(value, list) else value
