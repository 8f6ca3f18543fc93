"""Governance files against the tools there are. Opens nothing and imports little: `remit check` is quick."""

from __future__ import annotations

from pathlib import Path

from remit.adapters.tools.support.specs import support_specs
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.governance.remit import Remit, parse


def tool_declarations() -> tuple[ToolSpec, ...]:
    """Every tool that a governance file can name. Opens nothing."""
    return support_specs()


def load_remit(config: Path, model: str | None = None) -> Remit:
    """The compiled governance file. Raises: ConfigErrors; RemitError `config.missing`, `config.syntax`."""
    try:
        text = config.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise RemitError("config.missing", f"there is no governance file at {config}") from error
    except OSError as error:
        raise RemitError("config.missing", f"{config} cannot be read", cause=str(error)) from error
    except UnicodeDecodeError as error:
        raise RemitError("config.syntax", f"{config} is not UTF-8 text", cause=str(error)) from error
    return parse(text, str(config), tool_declarations(), model=model)
