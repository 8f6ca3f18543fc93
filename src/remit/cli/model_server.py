"""`remit model-server`: a scripted model on this machine, for tests and for work without a key."""

from __future__ import annotations

from pathlib import Path

import click

from remit.cli.asynchronous import run_async


@click.command(
    epilog="\b\nExamples:\n"
    "  remit model-server --port 8089 --scripts examples/support/scripts\n"
    "  ANTHROPIC_BASE_URL=http://127.0.0.1:8089 ANTHROPIC_API_KEY=any remit run ...\n"
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", default=8089, show_default=True, type=click.IntRange(0, 65_535), help="0: any free port."
)
@click.option(
    "--scripts",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of YAML scripts; the packaged default script answers what none of them matches.",
)
def command(host: str, port: int, scripts: Path | None) -> None:
    """Serve a scripted model that speaks the Anthropic Messages protocol, and keeps a bill of its own.

    GET /bill tells what it would have charged; GET /health answers when it is ready; POST /reset forgets.
    """
    # the web server takes 0.3 s to import, which no other command should pay
    from remit.testing.model_server import run  # noqa: PLC0415

    run_async(
        run(host, port, scripts, lambda url: print(f"model server on {url}  (Ctrl-C ends it)", flush=True))
    )
