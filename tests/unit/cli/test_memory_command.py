"""`remit memory` and `remit run --session`, on each store: what a person types, and what is left afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.acceptance_cli import agent_folder, changed

SCRIPTS = {
    "note": "name: note\nmatch: '(?i)note (?P<text>.+)'\n"
    "turns:\n"
    "  - call:\n"
    "      - {tool: remember, args: {text: '{{ match.text }}', about: C-1042}}\n"
    "  - say: Noted.\n",
    "ask": "name: ask\nmatch: '(?i)what do you know of (?P<query>.+)'\n"
    "turns:\n"
    "  - call:\n"
    "      - {tool: recall, args: {query: '{{ match.query }}'}}\n"
    "  - say: \"I know: {{ last.notes[0].text or 'nothing' }}\"\n",
    "talk": "name: talk\nmatch: '.'\nturns:\n  - say: 'You said: {{ task }}'\n",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    text = changed(("cost_controls:", "memory: {sessions: true, notes: true}\n  cost_controls:"))
    return agent_folder(tmp_path / "agent", config=text, scripts=SCRIPTS)


class Home:
    """The command line on one home, of one tenant at a time."""

    def __init__(self, remit: Any, monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
        self.run = remit
        self._monkeypatch = monkeypatch
        self.config = config

    def task(self, task: str, *arguments: str) -> Any:
        """The result of a run."""
        done = self.run("run", self.config, "--offline", "--json", "--task", task, *arguments)
        assert done.exit == 0, done.stderr
        return json.loads(done.stdout)

    def ask(self, *arguments: str) -> Any:
        """The JSON that a reading command prints."""
        done = self.run(*arguments, "--json")
        assert done.exit == 0, done.stderr
        return json.loads(done.stdout)

    def be(self, tenant: str) -> None:
        """Be of this tenant from now on."""
        self._monkeypatch.setenv("REMIT_TENANT", tenant)


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def here(request: pytest.FixtureRequest, remit: Any, monkeypatch: pytest.MonkeyPatch, config: Path) -> Home:
    """The command line, with its memory in each of the stores."""
    if request.param == "postgres":
        monkeypatch.setenv("REMIT_MEMORY_URL", request.getfixturevalue("database"))
    elif request.param == "redis":
        monkeypatch.setenv("REMIT_MEMORY_URL", request.getfixturevalue("redis_url"))
    return Home(remit, monkeypatch, config)


@pytest.mark.parametrize("here", ["sqlite"], indirect=True)
def test_a_session_goes_on_until_it_is_erased(here: Home) -> None:
    alone = here.task("And what now?")
    here.task("My name is Ada.", "--session", "SUPPORT-77")
    known = here.task("And what now?", "--session", "SUPPORT-77")
    assert known["answer"] == alone["answer"] == "You said: And what now?"
    more = known["usage"]["input_tokens"] - alone["usage"]["input_tokens"]
    assert more > 0  # the model was given the earlier turn too
    (shown,) = here.ask("memory", "show", "--session", "SUPPORT-77")
    assert [one["text"] for one in shown["kept"]] == [
        "My name is Ada.",
        "You said: My name is Ada.",
        "And what now?",
        "You said: And what now?",
    ]
    text = here.run("memory", "show", "--session", "SUPPORT-77").stdout
    assert "    You said: My name is Ada." in text
    # another tenant has no part in it, whatever it asks for
    here.be("other")
    assert here.ask("memory", "list") == []
    assert here.ask("memory", "show", "--session", "SUPPORT-77") == []
    erased = here.run("memory", "erase", "--session", "SUPPORT-77", "--reason", "malice")
    assert erased.stdout == "nothing of it was remembered\n"
    here.be("default")
    done = here.run("memory", "erase", "--subject", "Ada", "--reason", "asked for")
    assert done.stdout == "2 entries erased\n"
    (left,) = here.ask("memory", "list")
    assert (left["session"], left["entries"]) == ("SUPPORT-77", 2)
    here.run("memory", "erase", "--session", "SUPPORT-77", "--reason", "closed")
    assert here.run("memory", "list").stdout == "nothing is remembered\n"
    again = here.task("And what now?", "--session", "SUPPORT-77")
    assert again["usage"]["input_tokens"] == alone["usage"]["input_tokens"]
    records = here.ask("audit", "search", "--kind", "erasure")
    assert [(one["of"], one["state"], one.get("entries"), one["tenant"]) for one in records] == [
        ("session", "begun", None, "other"),
        ("session", "done", 0, "other"),
        ("subject", "begun", None, "default"),
        ("subject", "done", 2, "default"),
        ("session", "begun", None, "default"),
        ("session", "done", 2, "default"),
    ]
    assert "Ada" not in str(records)


def test_a_note_is_recalled_by_another_run_and_erased_by_its_subject(here: Home) -> None:
    assert here.task("Note she likes to be called early")["answer"] == "Noted."
    recalled = here.task("What do you know of early calls?")
    assert recalled["answer"] == "I know: she likes to be called early"
    here.be("other")
    assert here.task("What do you know of early calls?")["answer"] == "I know: nothing"
    here.be("default")
    assert (
        here.run("memory", "erase", "--subject", "C-1042", "--reason", "asked").stdout == "1 entries erased\n"
    )
    recalled = here.task("What do you know of early calls?")
    assert recalled["answer"] == "I know: nothing"


@pytest.mark.parametrize("here", ["sqlite"], indirect=True)
def test_what_is_asked_wrongly_is_said(here: Home) -> None:
    for arguments, words in [
        (("memory", "show"), "give either --session NAME or --notes"),
        (("memory", "erase", "--reason", "x"), "give either --subject ID or --session NAME"),
        (("memory", "erase", "--reason", "x", "--subject", "ab"), "too short"),
        (("memory", "show", "--session", "../x"), "no name of a session"),
        (("run", here.config, "--offline", "--task", "x", "--session", "a b"), "no name of a session"),
    ]:
        done = here.run(*arguments)
        assert done.exit == 2
        assert words in done.stderr
    assert here.run("memory", "list").stdout == "nothing is remembered\n"
