"""What an OpenAPI document says of the service as a whole: where it is, and how it knows who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from remit.adapters.tools.http.operations import METHODS


def server_of(document: Mapping[str, Any], source: str) -> str:
    """The address of the first server that a document from `source` names; empty where it names none."""
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else {"url": "/"}
    url = str(first.get("url", "/")) if isinstance(first, dict) else "/"
    variables = first.get("variables") if isinstance(first, dict) else None
    for name, variable in (variables if isinstance(variables, dict) else {}).items():
        if isinstance(variable, dict):
            url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    if "://" not in url and "://" in source:
        url = urljoin(source, url)
    return url if url.startswith(("http://", "https://")) and "{" not in url else ""


def auth_of(document: Mapping[str, Any], variable: str) -> dict[str, str]:
    """The section `auth` for the first way to say who one is, with the key in `variable`; empty where there is none."""
    schemes = _object(_object(document.get("components")).get("securitySchemes"))
    for name in _asked(document):
        scheme = _object(schemes.get(name))
        kind, way = scheme.get("type"), str(scheme.get("scheme", "")).lower()
        if kind in ("oauth2", "openIdConnect") or (kind == "http" and way == "bearer"):
            return {"bearer_env": variable}
        if kind == "http" and way == "basic":
            return {"basic_env": variable}
        place = scheme.get("in")
        if kind == "apiKey" and place in ("header", "query"):
            return {place: str(scheme.get("name")), f"{place}_env": variable}
    return {}


def _asked(document: Mapping[str, Any]) -> list[str]:
    """The names of what is asked for, alone, anywhere: the document's own first."""
    asked = [document.get("security")]
    for item in _object(document.get("paths")).values():
        asked += [
            _object(given).get("security")
            for method, given in _object(item).items()
            if str(method).upper() in METHODS
        ]
    return [
        name
        for requirements in asked
        for requirement in (requirements if isinstance(requirements, list) else [])
        if isinstance(requirement, dict) and len(requirement) == 1
        for name in requirement
    ]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
