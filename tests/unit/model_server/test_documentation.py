"""docs/model-server.md and what `remit init` scaffolds do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from remit.cli.init import command as init
from remit.cli.model_server import command as model_server
from remit.testing.model_server import load_script
from remit.testing.model_server.scripts import ScriptError, Step

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "model-server.md").read_text()


def test_the_documented_script_loads(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)[0])
    assert load_script(path).name == "refund"


def test_every_key_of_a_turn_and_of_an_error_is_documented() -> None:
    keys = {*Step.model_fields, *ScriptError.model_fields}
    assert not {key for key in keys if not re.search(rf"`{key}\b", DOCUMENT)}


def test_the_commands_help_names_what_is_served() -> None:
    text = CliRunner().invoke(model_server, ["--help"]).output
    for path in re.findall(r"`(?:GET|POST) (/[\w/.]+)", DOCUMENT):
        assert path in text


def test_the_tests_that_init_writes_run_green(tmp_path: Path) -> None:
    made = CliRunner().invoke(init, [str(tmp_path / "agent")])
    assert made.exit_code == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(command, cwd=tmp_path / "agent", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
