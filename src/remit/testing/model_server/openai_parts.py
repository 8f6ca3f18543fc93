"""What OpenAI's two protocols share: keys, errors, headers, tools, schemas and content, checked and counted.

Source: the public reference of the OpenAI API, and the types of its official client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from remit.testing.model_server.conversation import BadRequest, Failure
from remit.testing.model_server.limits import Allowance
from remit.testing.model_server.prompt import IMAGE_TOKENS_MAX, PAGE_TOKENS, document_tokens, image_tokens

OUTPUT_TOKENS_DEFAULT = 16_384
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_QUOTA_MESSAGE = "You exceeded your current quota, please check your plan and billing details."
_KINDS: Mapping[int, tuple[str, str | None]] = MappingProxyType(
    {
        429: ("requests", "rate_limit_exceeded"),
        500: ("server_error", None),
        503: ("service_unavailable_error", "server_overloaded"),
    }
)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises: BadRequest, where the key is missing."""
    if not headers.get("authorization", "").startswith("Bearer "):
        message = "You didn't provide an API key in an Authorization header using Bearer auth."
        raise BadRequest(message, status=401, code="invalid_api_key")


def read_object(body: bytes, fields: frozenset[str]) -> dict[str, Any]:
    """The request in `body`, with none but these fields, those that are null left out. Raises: BadRequest."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"We could not parse the JSON body of your request: {error}"
        raise BadRequest(message) from error
    if not isinstance(request, dict):
        raise BadRequest("The JSON body of your request is not an object.")
    for name in request:
        if name not in fields:
            raise bad(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    request = {name: value for name, value in request.items() if value is not None}
    check_type(request.get("model", ""), str, "model")
    if not request.get("model"):
        raise bad("you must provide a model parameter", "model", "missing_required_parameter")
    check_type(request.get("stream", False), bool, "stream")
    options = check_type(request.get("stream_options", {}), dict, "stream_options")
    if "stream_options" in request and not request.get("stream"):
        raise bad(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    for name in options:
        check_type(options[name], bool, f"stream_options.{name}")
    return request


def bad(message: str, param: str, code: str | None = None) -> BadRequest:
    """An `invalid_request_error`."""
    return BadRequest(message, param=param, code=code)


def check_type(value: Any, kind: type, param: str) -> Any:
    """`value`, which is of this very type. Raises: BadRequest."""
    if type(value) is not kind:
        message = (
            f"Invalid type for '{param}': expected {kind.__name__}, but got {type(value).__name__} instead."
        )
        raise bad(message, param, "invalid_type")
    return value


def check_choice(value: Any, allowed: tuple[Any, ...], param: str) -> Any:
    """`value`, which is one of these. Raises: BadRequest."""
    if not isinstance(value, str) or value not in allowed:
        names = ", ".join(f"'{name}'" for name in allowed)
        raise bad(
            f"Invalid value: {str(value)[:80]!r}. Supported values are: {names}.", param, "invalid_value"
        )
    return value


def output_tokens(value: Any, param: str, least: int) -> int:
    """The most tokens to answer with. Raises: BadRequest."""
    if value is None:
        return OUTPUT_TOKENS_DEFAULT
    if type(value) is not int:
        raise bad(f"Invalid type for '{param}': expected an integer.", param, "invalid_type")
    if value < least:
        message = (
            f"Invalid '{param}': integer below minimum value. Expected a value >= {least}, but got {value}."
        )
        raise bad(message, param, "integer_below_min_value")
    return value


def check_function(tool: Any, param: str) -> str:
    """The name of a function that a model may call. Raises: BadRequest."""
    check_type(tool, dict, param)
    name = tool.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"Invalid '{param}.name': string does not match pattern '^[a-zA-Z0-9_-]+$', or is too long."
        raise bad(message, f"{param}.name", "invalid_value")
    parameters = tool.get("parameters")
    if parameters is not None and (not isinstance(parameters, dict) or parameters.get("type") != "object"):
        message = f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'."
        raise bad(message, f"{param}.parameters", "invalid_function_parameters")
    if tool.get("strict") is True:
        check_strict(parameters, f"Invalid schema for function '{name}'", f"{param}.parameters")
    return name


def unique(names: list[str], param: str) -> frozenset[str]:
    """The names, each of which stands once. Raises: BadRequest."""
    if len(set(names)) != len(names):
        raise bad("Function names must be unique.", param, "invalid_value")
    return frozenset(names)


def check_strict(schema: Any, message: str, param: str) -> None:
    """Whether a strict schema closes its objects and requires all their fields. Raises: BadRequest."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("type") == "object":
                if value.get("additionalProperties") is not False:
                    why = "'additionalProperties' is required to be supplied and to be false."
                    raise bad(f"{message}: In context=(), {why}", param, "invalid_json_schema")
                fields, required = value.get("properties", {}), value.get("required", [])
                if not isinstance(required, list) or any(name not in required for name in fields):
                    why = "'required' is required to be supplied and to be an array including every key"
                    raise bad(f"{message}: In context=(), {why} in properties.", param, "invalid_json_schema")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def check_format(form: Any, schema: Any, param: str) -> None:
    """Whether `form` (text, json_object, or json_schema with a `schema` object) is one. Raises: BadRequest."""
    check_type(form, dict, param)
    kind = check_choice(form.get("type"), ("text", "json_object", "json_schema"), f"{param}.type")
    if kind != "json_schema":
        return
    check_type(schema, dict, f"{param}.json_schema")
    name = schema.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad(
            f"Missing required parameter: '{param}.name'.", f"{param}.name", "missing_required_parameter"
        )
    check_type(schema.get("schema"), dict, f"{param}.schema")
    if schema.get("strict") is True:
        check_strict(schema["schema"], f"Invalid schema for response_format '{name}'", f"{param}.schema")


def image_url_tokens(url: Any, param: str) -> tuple[int, str]:
    """The tokens of an image, and the base64 that they stand for. Raises: BadRequest."""
    check_type(url, str, param)
    found = _DATA_URL.fullmatch(url)
    if found is not None:
        if found.group(1) not in ("image/png", "image/jpeg", "image/gif", "image/webp"):
            raise bad("You uploaded an unsupported image.", param, "invalid_image_format")
        return image_tokens(found.group(2), param), found.group(2)
    if not url.startswith(("https://", "http://")):
        raise bad(f"Invalid '{param}'. Expected a valid URL.", param, "invalid_value")
    return IMAGE_TOKENS_MAX, ""


def file_tokens(part: Any, param: str) -> tuple[int, str]:
    """The tokens of a file, and the base64 that they stand for. Raises: BadRequest."""
    check_type(part, dict, param)
    if isinstance(part.get("file_url"), str):
        return PAGE_TOKENS, ""
    data = part.get("file_data")
    found = _DATA_URL.fullmatch(data) if isinstance(data, str) else None
    if found is None or found.group(1) != "application/pdf":
        message = f"Invalid '{param}.file_data'. Expected a base64-encoded data URL of a PDF."
        raise bad(message, f"{param}.file_data", "invalid_value")
    if not isinstance(part.get("filename"), str):
        raise bad(f"Missing required parameter: '{param}.filename'.", param, "missing_required_parameter")
    return document_tokens(found.group(2), param), found.group(2)


def error_of(failure: Failure) -> dict[str, Any]:
    """The error object."""
    kind, code = _KINDS.get(failure.status, ("invalid_request_error", None))
    if failure.status > 500 and failure.status != 503:
        kind = "server_error"
    if failure.quota:
        kind = code = "insufficient_quota"
    message = failure.message
    if failure.quota and message in ("", "scripted error"):
        message = _QUOTA_MESSAGE
    return {
        "message": message or "scripted error",
        "type": failure.type or kind,
        "param": failure.param,
        "code": failure.code or code,
    }


def unknown_model(model: str) -> Failure:
    """The error of a model that is not served."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Failure(status=404, message=message, code="model_not_found")


def headers(request_id: str, allowance: Allowance) -> dict[str, str]:
    """The request's id, and what is left of the limits."""
    reset_ms = -(-allowance.reset_in_us // 1_000)
    reset = f"{reset_ms / 1000:g}s" if reset_ms >= 1_000 else f"{reset_ms}ms"
    limits = allowance.limits
    return {
        "x-request-id": request_id,
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": str(limits.requests),
        "x-ratelimit-remaining-requests": str(allowance.requests),
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-limit-tokens": str(limits.input_tokens + limits.output_tokens),
        "x-ratelimit-remaining-tokens": str(allowance.tokens),
        "x-ratelimit-reset-tokens": reset,
    }
