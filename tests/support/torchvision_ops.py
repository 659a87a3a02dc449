"""Import torchvision with a build of torch that it was not compiled for, such as the CPU build of the tests.

Its compiled operators can't be loaded then, and the import fails because two of them are not even declared. Declaring
them is enough for everything except detection. For tests only: users need matching versions of the two packages.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_library: torch.library.Library | None = None


def declare() -> bool:
    """Make `import torchvision` work; False if it isn't installed."""
    global _library
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    if _library is not None:
        return True
    for binary in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(binary))
        except OSError:
            continue
        if hasattr(torch.ops.torchvision, "nms"):
            return True
    # Kept: the declarations end with the object.
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True
