"""Shell completion of names in the registry. A failure completes nothing and never prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer


def _from_registry(context: typer.Context, incomplete: str, names: Callable[[Any], list[str]]) -> list[str]:
    try:
        from modelspace.cli.opening import open_space

        known = names(open_space(context.params.get("home")))
    except Exception:
        return []
    return [name for name in known if name.startswith(incomplete)]


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of models."""
    return _from_registry(ctx, incomplete, lambda space: [model.name for model in space.list()])


def spaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of spaces."""
    return _from_registry(ctx, incomplete, lambda space: [row.name for row in space.spaces()])


def tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of tags."""
    return _from_registry(ctx, incomplete, lambda space: sorted({key for model in space.list() for key in model.tags}))


def probe_sets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of probe sets."""
    return _from_registry(ctx, incomplete, lambda space: [row.name for row in space.probe_sets()])


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of tasks."""
    return _from_registry(ctx, incomplete, lambda space: [row.name for row in space.tasks()])


def methods(incomplete: str) -> list[str]:
    """Names of attribution methods."""
    try:
        from modelspace.attribution import METHODS

        return [name for name in METHODS if name.startswith(incomplete)]
    except Exception:
        return []
