"""The program: finds a command, runs it and turns exceptions into an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelspace.cli import failures, parsing
from modelspace.cli.commands import COMMANDS, SETTINGS, load
from modelspace.cli.failures import UnknownCommandError
from modelspace.cli.messages import use_notes

__all__ = ["COMMANDS", "SETTINGS", "Program", "app", "load"]

#: Exit code of an interrupted program, 128 + SIGINT.
_INTERRUPTED = 130


# typer.Context is the class of click's context that commands name; TyperGroup's methods are typed with click's.
class Program(TyperGroup):
    """Finds commands in `COMMANDS`, so that a command imports only its own file."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names of all commands, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The parser of a command, or None if there is no such command."""
        return use_notes(load(cmd_name)) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command that the first word names.

        Raises:
            UnknownCommandError: there is no such command; the hint has similar names.
        """
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise UnknownCommandError(args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command; report interruptions and operating system errors in our own words."""
        try:
            result = super().invoke(ctx)
            # Flush here rather than at exit, where Python would print a traceback of a failure.
            sys.stdout.flush()
            return result
        except (KeyboardInterrupt, OSError) as error:
            # Caught here because typer would print its own messages for these.
            sys.exit(failures.report(error))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parse and run, report any exception, and exit."""
        parsing.use_direct_conversion(self)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except Exception as error:
            # click turns an interruption while it parses into an error of its own.
            cause = error.__cause__ or error.__context__
            code = failures.report(cause if isinstance(cause, KeyboardInterrupt) else error)
        else:
            if code == _INTERRUPTED:  # what typer makes of an interruption while it parses, without a word
                code = failures.report(KeyboardInterrupt())
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="modelspace", cls=Program, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=SETTINGS
)


def _version(requested: bool) -> None:
    if requested:
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
