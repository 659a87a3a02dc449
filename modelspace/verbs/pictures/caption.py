"""The caption of a picture: which space, how its models were compared, on which probe images, and when it was drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from modelspace.errors import UsageError
from modelspace.registry import Registry
from modelspace.types import SpaceSpec

#: Environment variable with the time of reproducible pictures, in seconds since 1970 (reproducible-builds.org).
TIME = "SOURCE_DATE_EPOCH"


def caption(source: Sequence[str], n_models: int, total: int | None = None) -> str:
    """One line: the source, the number of models, of which total they are a sample, and the date."""
    models = f"{n_models:,} model{'' if n_models == 1 else 's'}"
    if total is not None:
        models += f" that cover {total:,}"
    return "; ".join([*source, models, f"drawn {date()}"])


def source_of(registry: Registry, spec: SpaceSpec, where: str | None = None) -> tuple[str, ...]:
    """What the caption says of the models' space, and the condition on them."""
    probes = registry.probe_set(spec.probe_id).name
    parts = (f"Space {spec.name}: {_method(registry, spec)}", f"{spec.n_images} probe images of {probes}")
    return parts if where is None else (*parts, f"models where {where}")


def date() -> str:
    """The date that pictures bear, as in 2026-01-31: that of `TIME` if it is set, else today, in UTC.

    Raises:
        UsageError: `TIME` is set to something else than seconds.
    """
    seconds = os.environ.get(TIME, "")
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"the environment variable {TIME} is {seconds!r}, which is no number of seconds", "unset it"
        ) from None
    return moment.date().isoformat()


def method_text(spec: SpaceSpec) -> str:
    """The method of a space with its parameters, as in "epsilon_lrp (epsilon 0.0001)"."""
    parameters: dict[str, Any] = {key: value for key, value in spec.parameters.items() if key != "members"}
    text = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in parameters.items()
    )
    return f"{spec.method} ({text})" if text else spec.method


def _method(registry: Registry, spec: SpaceSpec) -> str:
    """As `method_text`, with the names of the spaces that a blend consists of."""
    members = spec.parameters.get("members", {})
    names = [row.spec.name for row in registry.spaces() if row.spec.space_id in members]
    text = method_text(spec)
    return text.replace(spec.method, f"{spec.method} of {' and '.join(names)}", 1) if names else text
