"""``zoo:NAME``: the small trained models that come with modelspace (`modelspace.zoo`)."""

from __future__ import annotations

from modelspace import zoo
from modelspace.errors import NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe


def load(name: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Load a model of the zoo. Its card has everything, so no flag is needed.

    Raises:
        NotFoundError: no model of that name.
        UsageError: weights were given; these models have their own.
    """
    names = list(zoo.names())
    if name not in names:
        raise NotFoundError(
            f"the zoo has no model called {name!r}", did_you_mean(name, names, f"it has {', '.join(names)}")
        )
    if weights is not None:
        raise UsageError(f"zoo:{name} has its own weights", "leave `weights=` out, or use python: with a factory")
    card = zoo.card(name)
    tags = {"group": card.group, "licence": card.licence, "trained_on": card.data}
    return describe(
        zoo.load(name),
        uri=f"zoo:{name}",
        name=name,
        flags=flags,
        preprocessing=card.preprocessing,
        architecture=card.architecture,
        layer=card.layer,
        task=card.task,
        data=card.world,
        tags={key: str(value) for key, value in tags.items() if value},
    )
