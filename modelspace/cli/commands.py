"""The table of commands, and how a command becomes a parser."""

from __future__ import annotations

import importlib
from typing import Any

import typer

from modelspace.cli import parsing
from modelspace.cli.examples import epilog

#: Settings of every command; -h is --help.
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: Every command, in the order of the help text. The module `modelspace.cli.NAME` defines it as the function `command`,
#: or as the Typer application `group` if it has subcommands.
COMMANDS = (
    "init",
    "add",
    "fill",
    "nearest",
    "compare",
    "evaluate",
    "map",
    "tree",
    "heatmap",
    "gallery",
    "curves",
    "atlas",
    "open",
    "report",
    "serve",
    "list",
    "show",
    "remove",
    "rename",
    "tag",
    "task",
    "suggest",
    "try",
    "scores",
    "observe",
    "outcomes",
    "spaces",
    "probes",
    "layers",
    "scan",
    "sql",
    "export",
    "merge",
    "verify",
    "doctor",
    "rebuild",
    "index",
    "backup",
    "restore",
)


def load(name: str) -> Any:
    """The parser of a command, from `typer.main.get_command`."""
    module = importlib.import_module(f"modelspace.cli.{name}")
    if hasattr(module, "group"):
        parser = typer.main.get_command(module.group)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, epilog=epilog(module.EXAMPLES), context_settings=SETTINGS)(module.command)
        parser = typer.main.get_command(single)
    parser.name = name
    parsing.use_direct_conversion(parser)
    return parser
