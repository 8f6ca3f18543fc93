"""Which provider a model's name leads to, and what must be set for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core.errors import RemitError
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment

KEYS = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}
COMPATIBLE = {"REMIT_OPENAI_COMPATIBLE_URL": "http://127.0.0.1:9/v1"}


async def opened(folder: Path, model: str, environment: dict[str, str], *, fallback: str = "") -> str:
    """The code of what stood in the way of opening an agent, or nothing."""
    (folder / "kb").mkdir(exist_ok=True)
    config = folder / "agent.yaml"
    lines = [
        "agent:",
        "  name: a",
        f"  model: {model}",
        "  allowed_tools: [search_kb]",
        "  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}",
    ]
    config.write_text("\n".join([*lines, *([f"  fallback_models: [{fallback}]"] if fallback else [])]))
    deployment = Deployment(home=folder / "home", environment={"REMIT_LOG": "off", **environment})
    try:
        async with open_agent(deployment, AgentOptions(config=config)):
            return ""
    except RemitError as error:
        return f"{error.code} {error.message} {error.remedy}"


@pytest.mark.parametrize(
    ("model", "needs"),
    [
        ("claude-sonnet-4-20260514", "ANTHROPIC_API_KEY"),
        ("gpt-5.2", "OPENAI_API_KEY"),
        ("o3-mini", "OPENAI_API_KEY"),
        ("chatgpt-4o-latest", "OPENAI_API_KEY"),
        ("openai-compatible/llama3.3", "REMIT_OPENAI_COMPATIBLE_URL"),
    ],
)
async def test_what_is_not_set_is_named(tmp_path: Path, model: str, needs: str) -> None:
    others = {name: value for name, value in {**KEYS, **COMPATIBLE}.items() if name != needs}
    told = await opened(tmp_path, model, others)
    assert told.startswith("model.no_key")
    assert f"set {needs}" in told
    assert await opened(tmp_path, model, {**others, needs: "http://127.0.0.1:9/v1"}) == ""


async def test_a_fallback_model_needs_its_provider_too(tmp_path: Path) -> None:
    told = await opened(tmp_path, "claude-x", {"ANTHROPIC_API_KEY": "k"}, fallback="gpt-5.2")
    assert "OPENAI_API_KEY" in told
    assert await opened(tmp_path, "claude-x", KEYS, fallback="gpt-5.2") == ""


async def test_other_names_are_the_compatible_server_s_where_there_is_one(tmp_path: Path) -> None:
    assert (await opened(tmp_path, "llama3.3", KEYS)).startswith("model.no_provider")
    assert await opened(tmp_path, "llama3.3", COMPATIBLE) == ""
