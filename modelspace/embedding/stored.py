"""A registered model, loaded again from what the registry knows of it."""

from __future__ import annotations

from typing import Any

from modelspace.embedding.prepare import Request
from modelspace.errors import ConflictError, NotFoundError
from modelspace.sources import is_uri
from modelspace.sources.fields import FIELDS
from modelspace.types import ModelCard


def request_for(card: ModelCard, **changes: Any) -> Request:
    """The request that loads a registered model with the same weights, layer, preprocessing and options.

    Args:
        card: the model's card.
        changes: fields of `Request` that differ: weights that were moved, another device.

    Raises:
        NotFoundError: it was a module in memory, so there is no address to load it from.
    """
    if not is_uri(card.uri):
        raise NotFoundError(
            f"model {card.name!r} was added as a module in memory, so it can't be loaded again",
            f"in Python, give the module itself: models={{{card.name!r}: module}}",
        )
    known: dict[str, Any] = {
        "name": card.name,
        "weights": card.tags.get("weights") or None,
        "weights_key": card.tags.get("weights_key") or None,
        "trust_code": card.tags.get("trusted_code") or None,
        "layer": card.layer,
        "preprocessing": card.preprocessing,
        **card.options,
    }
    return Request(card.uri, **{**known, **changes})


def check_same(card: ModelCard, loaded: ModelCard) -> None:
    """Refuse a model whose weights are not those that were registered.

    Raises:
        ConflictError: the weights differ.
    """
    if loaded.weights_sha256 != card.weights_sha256:
        raise ConflictError(
            f"the weights at {card.uri} differ from those that {card.name!r} was registered with",
            f"put the registered weights back, or add the new ones under another name: {add_call(card, 'new')}",
        )


def add_call(card: ModelCard, name: str) -> str:
    """The call, in backticks, that adds what is now at a model's address under another name, run as it was."""
    stated: dict[str, Any] = {key: value for key, value in card.preprocessing.to_dict().items() if key in FIELDS}
    if card.preprocessing.channels != "rgba":
        stated.pop("alpha", None)
    given = {
        **{key: card.tags[key] for key in ("weights", "weights_key") if card.tags.get(key)},
        **({"layer": card.layer} if card.layer_choice.given else {}),
        **card.options,
        "preprocessing": {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()},
    }
    more = "".join(f", {key}={value!r}" for key, value in given.items())
    return f"`space.add({card.uri!r}, name={name!r}{more})`"
