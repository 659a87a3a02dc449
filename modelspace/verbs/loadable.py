"""Whether a model can be loaded, found out without a pass: the files are there, the weights fit, nothing is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelspace.files import expanded, is_folder
from modelspace.sources import load, parse_uri

if TYPE_CHECKING:
    from modelspace.sources import PreprocessingFlags

#: Sources whose networks are built from a package's code, for weights in a file.
_BUILT = ("timm", "torchvision")


def check(uri: str, weights: str | None, weights_key: str | None, flags: PreprocessingFlags | None) -> None:
    """Load a model whose weights are in a file here, as `add` would, and drop it: no pass, no download, no user's code.

    Addresses of other kinds are not loaded: those of Python code, of programs and of weights that have to be fetched.

    Raises:
        ModelspaceError: loading it fails, or its preprocessing is incomplete.
    """
    scheme, name = parse_uri(uri)
    if (scheme in _BUILT and weights is not None) or (scheme == "hf-hub" and is_folder(expanded(Path(name)))):
        load(uri, weights=weights, weights_key=weights_key, preprocessing=flags)
