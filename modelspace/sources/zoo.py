"""``zoo:NAME``: the small trained models that come with modelspace (`modelspace.zoo`)."""

from __future__ import annotations

from modelspace import zoo
from modelspace.errors import NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe


def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Load a model of the zoo. Its card states everything, so no flag is needed.

    Raises:
        NotFoundError: no model of that name.
        UsageError: weights were given; these models bring their own.
    """
    names = list(zoo.names())
    if rest not in names:
        raise NotFoundError(
            f"the zoo has no model called {rest!r}", did_you_mean(rest, names, f"it has {', '.join(names)}")
        )
    if weights is not None:
        raise UsageError(f"zoo:{rest} brings its own weights", "leave `weights=` out, or use python: with a factory")
    card = zoo.card(rest)
    tags = {"group": card.group, "licence": card.licence, "trained_on": card.data}
    return describe(
        zoo.load(rest),
        uri=f"zoo:{rest}",
        name=rest,
        flags=flags,
        stated=card.preprocessing,
        architecture=card.architecture,
        layer=card.layer,
        task=card.task,
        data=card.world,
        tags={key: str(value) for key, value in tags.items() if value},
    )
