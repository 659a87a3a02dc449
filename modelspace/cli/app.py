"""The program: finds a command, runs it and turns what it raises into an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelspace.cli import failures, parsing
from modelspace.cli.commands import COMMANDS, SETTINGS, load
from modelspace.cli.failures import UnknownCommandError

__all__ = ["COMMANDS", "SETTINGS", "Program", "app", "load"]


class Program(TyperGroup):
    """Finds commands in `COMMANDS`, so that a command costs the import of its own file only."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        return load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise UnknownCommandError(args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            result = super().invoke(ctx)
            # Here and not at exit, where Python would print the failure itself.
            sys.stdout.flush()
            return result
        except (KeyboardInterrupt, OSError) as error:
            # typer has its own answers to these, so they are taken before it sees them.
            sys.exit(failures.report(error))

    def main(self, *args: Any, **extra: Any) -> Any:
        parsing.lighten(self)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except Exception as error:
            code = failures.report(error)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="modelspace", cls=Program, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=SETTINGS
)


def _version(asked: bool) -> None:
    if asked:
        from modelspace import __version__

        typer.echo(f"modelspace {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog="\b\nStart here:\n  modelspace init\n  modelspace add zoo:curvature\n  modelspace nearest curvature\n\n"
    "'modelspace COMMAND --help' has the options and examples of a command. Data goes to standard output, messages to "
    "standard error.",
)
def program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A vector database of neural networks: register a model once, ask which one to transfer from."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
