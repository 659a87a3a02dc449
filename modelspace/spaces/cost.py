"""What a space costs, before anything is rendered or run: from measured times, and from the sizes of what is stored.

The times are of one core: docs/lab-book/benchmarks.md has the passes (saliency and gradient*input of an encoder of the
zoo and of ResNet-50), and rendering 64 rooms of the default size took 12 s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from modelspace.errors import UsageError
from modelspace.spaces.kinds import StoredSpace, space_of
from modelspace.types import SpaceSpec

#: Seconds per probe image, of one core: a small encoder at 64 pixels, and ResNet-50 at 224.
SMALL_PASS, LARGE_PASS = 0.0023, 0.204

#: Seconds to render one image.
RENDERING = 0.19

#: From here on a caller is asked: seconds for rendering and one pass of ResNet-50, and bytes per model.
LONG, LARGE = 3600.0, 1 << 28

#: The largest part of the machine's memory that the maps of one model may take; they are held until they are stored.
SHARE = 0.5


@dataclass(frozen=True)
class Cost:
    """The cost of spaces that share probe images.

    Attributes:
        images: number of probe images.
        rendering: seconds to render them, once; 0 if they are stored.
        passes: seconds per model, of a small encoder and of ResNet-50.
        stored: bytes per model.
    """

    images: int
    rendering: float
    passes: tuple[float, float]
    stored: int

    @property
    def is_large(self) -> bool:
        """Whether a caller should be asked first."""
        return self.rendering + self.passes[1] > LONG or self.stored > LARGE

    def __str__(self) -> str:
        """A sentence without a final full stop.

        >>> print(Cost(100_000, 19_000, (230, 20_400), 409_600_000))
        100,000 probe images take about 5.3 hours to render; each model then takes 4 minutes (a small encoder) to 5.7 \
hours (ResNet-50) on one core, and 390.6 MiB in the registry
        """
        rendering = f"take about {duration(self.rendering)} to render; " if self.rendering else "are many: "
        low, high = map(duration, self.passes)
        return (
            f"{self.images:,} probe images {rendering}each model then takes {low} (a small encoder) to {high} "
            f"(ResNet-50) on one core, and {size(self.stored)} in the registry"
        )


def cost(specs: Sequence[SpaceSpec], *, rendered: bool) -> Cost:
    """The cost of spaces with the same probe images."""
    images = max(spec.n_images for spec in specs)
    stored = 0
    for space in map(space_of, specs):
        if isinstance(space, StoredSpace):
            stored += space.code_bytes(space.spec.n_images)
    return Cost(images, RENDERING * images if rendered else 0.0, (SMALL_PASS * images, LARGE_PASS * images), stored)


def check_memory(estimate: Cost, memory: int | None = None) -> None:
    """Refuse spaces whose maps of one model this machine's memory can't hold.

    Args:
        estimate: of the spaces.
        memory: bytes; default: what the machine has, if it says so.

    Raises:
        UsageError: with the number of images that fit.
    """
    memory = memory if memory is not None else machine_memory()
    if memory is None or estimate.stored <= SHARE * memory:
        return
    most = int(SHARE * memory / (estimate.stored / estimate.images))
    raise UsageError(
        f"{estimate.images:,} probe images need {size(estimate.stored)} of memory per model, and this machine has "
        f"{size(memory)}",
        f"use `images=` of {most:,} or fewer (200 are the default), a smaller `canvas=` or fewer `bits=`",
    )


def machine_memory() -> int | None:
    """Bytes of memory of this machine; None where it can't be found out."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def duration(seconds: float) -> str:
    """A rough duration.

    >>> duration(3), duration(250), duration(9000), duration(1e6)
    ('3 seconds', '4 minutes', '2.5 hours', '11.6 days')
    """
    if seconds < 95:
        return f"{seconds:.0f} seconds"
    if seconds < 95 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def size(n_bytes: float) -> str:
    """Bytes in a binary unit.

    >>> size(500), size(409_600_000), size(3e12)
    ('1 KiB', '390.6 MiB', '2.7 TiB')
    """
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1024:
            return f"{max(n_bytes, 1):.3g} {unit}" if unit == "KiB" else f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} TiB"
