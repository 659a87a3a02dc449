"""The command ``modelspace serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelspace.cli import options
from modelspace.cli.messages import note, say
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace serve
modelspace serve --port 8080 --workers 2
modelspace serve --host 0.0.0.0 --token-file token
"""


def command(
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen at. Other machines reach 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="0 for any free one.")] = 8265,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            show_default=False,
            help="File with a token that every request must carry, as in 'Authorization: Bearer TOKEN'.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Number of processes.")] = 1,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Answer queries over HTTP until Ctrl-C, read-only.

    The address /docs of the server lists what it answers: nearest models, models, affinities, spaces, tasks and the
    atlas. Without a token it should be reached from this machine alone. Needs 'pip install "modelspace-db[serve]"'.
    """
    space = open_space(home)
    from modelspace.server.settings import Settings

    if token_file is None and not Settings(host, port, None, workers).is_local:
        note([f"everyone who reaches {host} can ask: --token-file lets in those who have the token"], quiet=quiet)
    space.serve(
        host=host,
        port=port,
        token_file=token_file,
        workers=workers,
        on_ready=lambda url: say(f"serving {url} (Ctrl-C stops)", quiet=quiet),
    )
