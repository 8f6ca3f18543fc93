"""Files that are attached to a task reach the models of both protocols, are paid for, and are nowhere kept."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from pathlib import Path

import pytest
from acceptance_cli import Cli, agent_folder

MODELS = ["claude-sonnet-4-20260514", "gpt-5.2"]
SCRIPT = {"looks": "name: looks\ndefault: true\nturns:\n  - say: I have looked at it.\n"}
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"".join(b"\0" + b"\x7f" * width for _ in range(height)), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("model", MODELS)
def test_an_image_and_a_pdf_reach_the_model_and_are_in_no_trace_and_no_log(
    cli: Cli, tmp_path: Path, model: str
) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPT)
    image, document = tmp_path / "screen.dat", tmp_path / "bill.pdf"
    image.write_bytes(png(600, 500))
    document.write_bytes(PDF)
    plain = cli.task("What is this?", "--model", model, config=config)
    done = cli.task("What is this?", "--model", model, "--attach", image, "--attach", document, config=config)
    assert done.exit == 0, done.stderr
    assert done.json["answer"] == "I have looked at it."
    counted = (one.json["usage"]["input_tokens"] for one in (done, plain))
    # what the server counts: an image by its pixels, and a page
    assert next(counted) - next(counted) >= 600 * 500 // 750 + 1500
    (created,) = [
        record
        for record in cli.ask("audit", "search", "--run", done.json["run_id"])
        if record["kind"] == "run.created"
    ]
    assert created["attachments"] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (image, document)
    ]
    parts = [base64.b64encode(path.read_bytes())[20:80] for path in (image, document)]
    for path in cli.home.rglob("*"):
        # the journal keeps them with the task, so that the run can go on in another process
        if path.is_file() and not path.name.startswith("remit.db"):
            kept = path.read_bytes()
            assert not any(part in kept for part in parts), path


@pytest.mark.parametrize("model", MODELS)
def test_a_pdf_whose_cost_cannot_be_bounded_is_refused_before_it_is_sent(
    cli: Cli, tmp_path: Path, model: str
) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPT)
    locked = tmp_path / "locked.pdf"
    locked.write_bytes(PDF.replace(b"<</Root", b"<</Encrypt 9 0 R/Root"))
    done = cli.task("What is this?", "--model", model, "--attach", locked, config=config)
    assert done.exit == 3
    assert done.json["error"]["code"] == "price.unknown"
    assert done.json["cost_nano_usd"] == 0


def test_what_cannot_be_attached_is_told_by_name_and_begins_no_run(cli: Cli, tmp_path: Path) -> None:
    text, large = tmp_path / "notes.png", tmp_path / "large.png"
    text.write_text("only text")
    large.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 4_000_000)
    for path, said in (
        (text, "value.invalid: notes.png is no PNG, JPEG, GIF, WebP or PDF"),
        (large, "value.too_large: large.png has 4,000,008 bytes"),
        (tmp_path / "nowhere.png", "cannot be read"),
        (tmp_path, "cannot be read"),
    ):
        done = cli.task("What is this?", "--attach", path)
        assert done.exit == 2, done.stderr
        assert said in done.stderr
    assert cli.ask("runs", "list") == []
