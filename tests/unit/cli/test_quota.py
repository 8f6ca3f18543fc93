"""What a provider still allows is a metric, and `remit doctor` shows it after the process has ended."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from remit.core.actions import Principal
from remit.core.quota import Quota
from remit.testing.fakes import FakeClock
from remit.testing.model_server import serve
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment
from remit.wiring.quota import QuotaFile, read_quotas

EXAMPLE = Path(__file__).parents[3] / "examples" / "support" / "agent-config.yaml"
KEY = "sk-canary-of-the-provider"


async def asked(home: Path, model: str) -> str:
    """The metrics after a task that a server on loopback answered as the real provider would."""
    async with serve(()) as server:
        environment = {
            "REMIT_LOG": "off",
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": server.base_url,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{server.base_url}/v1",
        }
        deployment = Deployment(home=home, environment=environment)
        async with open_agent(deployment, AgentOptions(config=EXAMPLE, changes={"model": model})) as agent:
            await agent.runner.run("hello", Principal(kind="user", id="u"))
            return agent.metrics.expose().decode()


@pytest.mark.parametrize(
    ("model", "provider"), [("claude-sonnet-4-20260514", "anthropic"), ("gpt-5.2", "openai")]
)
def test_the_quota_of_a_provider(tmp_path: Path, remit: Any, model: str, provider: str) -> None:
    (before,) = [one for one in json.loads(remit("doctor", "--json").stdout) if one["name"] == "quota"]
    assert before["detail"] == "not known: no provider was asked from this home"
    metrics = asyncio.run(asked(tmp_path / "home", model))
    labels = f'{{kind="requests",model="{model}",provider="{provider}"}}'
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if "provider_quota" in line)
    limit = float(values[f"remit_provider_quota_limit{labels}"])
    assert 0 < float(values[f"remit_provider_quota_remaining{labels}"]) < limit
    assert float(values[f"remit_provider_quota_reset_timestamp_seconds{labels}"]) > 10**9
    (after,) = [one for one in json.loads(remit("doctor", "--json").stdout) if one["name"] == "quota"]
    assert after["detail"].startswith(f"{provider} {model}: ")
    assert f"of {limit:,.0f} requests" in after["detail"]
    assert KEY not in (tmp_path / "home" / "quota.json").read_text()


def test_the_newest_of_each_stays_over_processes_and_a_broken_file_is_none(tmp_path: Path) -> None:
    path, clock = tmp_path / "quota.json", FakeClock()
    seen: list[Quota] = []

    def quota(model: str, remaining: int) -> Quota:
        return Quota(
            provider="p", model=model, kind="requests", limit=10, remaining=remaining, resets_at_us=None
        )

    QuotaFile(path, clock, seen.append).save()
    assert not path.exists()
    QuotaFile(path, clock, seen.append).take((quota("a", 9), quota("b", 9)))
    clock.advance(5)
    later = QuotaFile(path, clock, seen.append)
    later.take((quota("a", 3),))
    later.take((quota("a", 2),))
    later.save()
    found = {one.quota.model: (one.quota.remaining, one.at_us) for one in read_quotas(path)}
    assert found == {"a": (2, clock.now_us()), "b": (9, clock.now_us() - 5_000_000)}
    assert [one.remaining for one in seen] == [9, 9, 3, 2]
    for broken in ("", "{}", "[1]", '[{"quota": {"x": 1}, "at_us": 1}]', "[[[["):
        path.write_text(broken)
        assert list(read_quotas(path)) == []
