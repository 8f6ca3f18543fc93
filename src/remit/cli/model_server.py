"""`remit model-server`: a scripted model on this machine, for tests and for work without a key."""

from __future__ import annotations

from pathlib import Path

import click

from remit.cli.asynchronous import run_async


@click.command(
    epilog="\b\nExamples:\n"
    "  remit model-server --port 8089 --scripts examples/support/scripts\n"
    "  remit model-server --chaos 7\n"
    "  ANTHROPIC_BASE_URL=http://127.0.0.1:8089 ANTHROPIC_API_KEY=any remit run ...\n"
    "  OPENAI_BASE_URL=http://127.0.0.1:8089/v1 OPENAI_API_KEY=any remit run ...\n"
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
@click.option(
    "--chaos",
    type=int,
    metavar="SEED",
    help="Let one request in five meet a fault: 429, 5xx, a cut, a hang, a delay; the same for the same seed.",
)
def command(host: str, port: int, scripts: Path | None, chaos: int | None) -> None:
    """Serve a scripted model that speaks Anthropic's and OpenAI's protocols, and keeps a bill of its own.

    POST /v1/messages, /v1/messages/count_tokens, /v1/responses and /v1/chat/completions, streaming and not.
    GET /bill tells what it has charged (?entries=1: request by request; /bill.csv: as a provider exports it);
    GET /health answers when it is ready; POST /reset forgets. Scripts: docs/model-server.md.
    """
    # the web server takes 0.3 s to import, which no other command should pay
    from remit.testing.model_server import Chaos, ServerOptions, run  # noqa: PLC0415

    options = ServerOptions(chaos=None if chaos is None else Chaos(seed=chaos))

    def tell(url: str) -> None:
        print(f"model server on {url}  (Ctrl-C ends it)", flush=True)

    run_async(run(host, port, scripts, tell, options))
