"""The index of a state dict in several files, as `save_pretrained()` writes it, read without torch."""

from __future__ import annotations

import json
from pathlib import Path

from modelspace.errors import ModelspaceError
from modelspace.files import read_text
from modelspace.sources.downloads import line

#: Largest index, in bytes.
LARGEST = 64 << 20

_HINT = "an index is what save_pretrained() writes next to its parts"


def placed(index: Path, size: int) -> dict[str, str]:
    """Name of each tensor -> name of the file next to the index that holds it.

    Args:
        index: the file.
        size: of it, in bytes.

    Raises:
        ModelspaceError: it is too large, no index, or names a file that is not in its folder, or another index.
    """
    if size > LARGEST:
        raise ModelspaceError(f"{index} has {size:,} bytes, too many for the index of parts", _HINT)
    try:
        places = json.loads(read_text(index)).get("weight_map")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelspaceError(f"{index} can't be read as an index of parts: {line(error)}", _HINT) from error
    if not isinstance(places, dict) or not places or not all(isinstance(part, str) for part in places.values()):
        raise ModelspaceError(f"{index} is no index of parts: it has no weight_map", _HINT)
    for part in places.values():
        if Path(part).name != part or part.endswith(".json"):
            raise ModelspaceError(f"{index} is refused: it names {part!r}, which is not a file in its folder", _HINT)
    return places
