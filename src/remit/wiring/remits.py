"""Governance files against the tools there are. Opens nothing and imports little: `remit check` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from remit.adapters.prices import PriceBook
from remit.adapters.tools.support.specs import support_specs
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.governance.remit import Remit, parse
from remit.ports.services import Clock


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


def open_prices(environment: Mapping[str, str], clock: Clock | None = None) -> PriceBook:
    """The prices of this deployment: REMIT_PRICES, the packaged ones, the public table."""
    path = environment.get("REMIT_PRICES")
    return PriceBook(Path(path) if path else None, clock)


def unpriced(remit: Remit, environment: Mapping[str, str]) -> list[str]:
    """The models of the remit that have no price, so that every call of them is refused."""
    prices = open_prices(environment)
    found = []
    for model in (remit.model, *remit.fallback_models):
        try:
            prices.explain(model)
        except RemitError as error:
            if error.code != "price.unknown":
                raise
            found.append(model)
    return found
