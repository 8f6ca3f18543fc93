"""`remit costs reconcile`: exports read strictly, and the ledger against the bill of the model server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from remit.cli.cost_export import read_export
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.governance.reconciliation import Billed
from remit.testing.model_server import Chaos, Script, ServerOptions, serve
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment

SONNET = "claude-sonnet-4-20260514"
DAY = "2026-11-22"


def export(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "export.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"date,model,cost_usd\n{DAY},m,1.5\n",
        f"Usage-Date_UTC,Model,Amount\n{DAY},m,1.5\n",
        f'\ufeffDay,"Model Name",Cost (USD),Currency\r\n{DAY},m,"$1.5",usd\r\n\r\n',
        f"bucket_start,model_id,amount_value,amount_currency\n{DAY}T00:00:00+00:00,m,1.5,USD\n",
        f"date,model,cost\n{DAY},m,1.2\n{DAY},m,0.3\n",
        f'date,model,cost\n{DAY},m,1501.5\n{DAY},m,"-1,500.0"\n',
    ],
)
def test_headers_have_synonyms_and_lines_of_a_day_and_model_are_added(tmp_path: Path, text: str) -> None:
    found = read_export(export(tmp_path, text), "UTC")
    ((key, billed),) = found.billed.items()
    assert key == (DAY, "m")
    assert (billed.cost_nano_usd, billed.input_tokens) == (1_500_000_000, None)
    assert billed.rounding_nano_usd in (50_000_000, 100_000_000)
    assert found.unused == ()


def test_tokens_and_unused_columns_are_told(tmp_path: Path) -> None:
    path = export(tmp_path, f"date,model,cost,input_tokens,output_tokens,project\n{DAY},m,2,1000,20,p\n")
    found = read_export(path, "UTC")
    expected = Billed(
        cost_nano_usd=2 * 10**9, rounding_nano_usd=5 * 10**8, input_tokens=1000, output_tokens=20
    )
    assert found.billed == {(DAY, "m"): expected}
    assert found.unused == ("project",)


def test_a_time_with_a_zone_counts_for_the_day_of_ours(tmp_path: Path) -> None:
    path = export(tmp_path, f"start_time,model,cost\n{DAY}T23:30:00Z,m,1\n")
    assert list(read_export(path, "Europe/Berlin").billed) == [("2026-11-23", "m")]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("date,cost\n", 1, "no column for the model"),
        ("date,day,model,cost\n", 1, "two columns for the day"),
        (f"date,model,cost\n{DAY},m\n", 2, "2 cells under a header of 3"),
        (f"date,model,cost\n{DAY},m,1\n\nTotal,,1\n", 4, "'Total' is no day"),
        (f"date,model,cost\n{DAY},,1\n", 2, "the model is missing"),
        (f"date,model,cost\n{DAY},m,\n", 2, "is no amount"),
        (f"date,model,cost\n{DAY},m,NaN\n", 2, "is no amount"),
        (f"date,model,cost\n{DAY},m,1e99\n", 2, "is no amount"),
        (f"date,model,cost\n{DAY},m,'1,23'\n".replace("'", '"'), 2, "is no amount"),
        (f"date,model,cost,currency\n{DAY},m,1,EUR\n", 2, "EUR"),
        (f"date,model,cost,input_tokens\n{DAY},m,1,many\n", 2, "is no number of tokens"),
        ("date,model,cost\n22/11/2026,m,1\n", 2, "is no day"),
        ("date,model,cost\n9999-12-31,m,1\n", 2, "is no day"),  # there is no day after it
        ("date,model,cost\n0001-01-01T00:00:00+14:00,m,1\n", 2, "is no day"),  # it is in no year
        (f'date,model,cost\n{DAY},"m"x,1\n', 2, "no CSV"),
    ],
)
def test_what_is_not_understood_is_an_error_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    path = export(tmp_path, text)
    with pytest.raises(RemitError) as caught:
        read_export(path, "UTC")
    assert caught.value.code == "export.invalid"
    assert f"{path}:{line}: " in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tolerance", "-1"], "percentage"),
        (["--tolerance", "nan"], "percentage"),
        (["--timezone", "nowhere"], "nowhere"),
        (["--since", "2026-12-01"], "there is no day"),
    ],
)
def test_wrong_options_are_refused(remit: Any, tmp_path: Path, options: list[str], said: str) -> None:
    path = export(tmp_path, f"date,model,cost\n{DAY},m,1\n")
    done = remit("costs", "reconcile", path, *options)
    assert (done.exit, "usage.invalid" in done.stderr, said in done.stderr) == (2, True, True)
    assert remit("costs", "reconcile", tmp_path / "none.csv").exit == 2


async def work(home: Path, folder: Path, chaos: Chaos | None) -> str:
    """Some tasks of an agent whose provider may cut its answers; the provider's own bill."""
    folder.mkdir()
    (folder / "agent.yaml").write_text(
        f"agent: {{name: desk, model: {SONNET}, allowed_tools: [], max_retries: 0, max_output_tokens: 400,\n"
        "  cost_controls: {max_daily_spend_usd: 50, max_cost_per_run_usd: 2}}\n"
    )
    script = Script.model_validate({"name": "s", "match": ".", "turns": [{"say": "All is well. " * 40}]})
    async with serve([script], ServerOptions(chaos=chaos)) as server:
        environment = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": server.base_url, "REMIT_LOG": "off"}
        deployment = Deployment(home=home, environment=environment)
        async with open_agent(deployment, AgentOptions(config=folder / "agent.yaml")) as agent:
            for number in range(8):
                await agent.runner.run(f"task {number}", Principal(kind="user", id="u"))
        return server.model_server.bill.to_csv()


def test_the_server_s_bill_agrees_and_after_faults_what_is_presumed_explains_all(
    remit: Any, tmp_path: Path
) -> None:
    quiet = asyncio.run(work(tmp_path / "home", tmp_path / "quiet", None))
    path = export(tmp_path, quiet)
    # days before the export's are asked for too, should the bill be of the first moments of a day
    done = remit("costs", "reconcile", path, "--since", "2d", "--tolerance", "0", "--json")
    found = json.loads(done.stdout)
    assert (done.exit, found["agrees"], found["difference_nano_usd"]) == (0, True, 0)
    assert found["ours_nano_usd"] == found["theirs_nano_usd"] > 0
    faulty = asyncio.run(work(tmp_path / "home", tmp_path / "faulty", Chaos(seed=3, cut=500, hung=0, slow=0)))
    rows = faulty.splitlines() + quiet.splitlines()[1:]
    path = export(tmp_path, "\n".join(rows) + "\n")
    done = remit("costs", "reconcile", path, "--since", "2d", "--json")
    found = json.loads(done.stdout)
    assert (done.exit, found["agrees"]) == (1, False)
    assert found["difference_nano_usd"] < 0
    assert {reason["code"] for line in found["lines"] for reason in line["reasons"]} == {"presumed"}
    spent = json.loads(remit("costs", "--by", "tenant", "--json").stdout)
    presumed = sum(row["presumed_nano_usd"] for row in spent)
    assert -presumed <= found["difference_nano_usd"]
    shown = remit("costs", "reconcile", path).stdout
    assert "presumed spent here until somebody confirms it" in shown
    assert shown.splitlines()[-1] == "they do not agree"


def test_a_dated_name_of_the_provider_s_is_taken_for_ours_and_strangers_are_named(
    remit: Any, tmp_path: Path
) -> None:
    bill = asyncio.run(work(tmp_path / "home", tmp_path / "agent", None))
    head, line = bill.splitlines()
    dated, stranger = line.replace(SONNET, f"{SONNET}-2026-05-14"), line.replace(SONNET, "gpt-5.1")
    path = export(tmp_path, f"{head}\n{dated}\n")
    done = remit("costs", "reconcile", path, "--since", "2d", "--json")
    assert done.exit == 0
    assert f"{SONNET}-2026-05-14 is taken for {SONNET}" in json.loads(done.stdout)["notes"]
    path = export(tmp_path, f"{head}\n{stranger}\n")
    found = json.loads(remit("costs", "reconcile", path, "--since", "2d", "--json").stdout)
    reasons = {line["model"]: [one["code"] for one in line["reasons"]] for line in found["lines"]}
    assert reasons == {SONNET: ["not_theirs"], "gpt-5.1": ["not_ours"]}
