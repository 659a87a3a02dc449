"""Spaces: where models are compared. Affinities, coordinates, the index, and how neighbours are ranked."""

from modelspace.deprecated import renamed

__getattr__ = renamed(
    __name__,
    {
        name: f"modelspace.spaces.create.{name}"
        for name in (
            "DEFAULT_BITS",
            "DEFAULT_CANVAS",
            "DEFAULT_IMAGES",
            "DEFAULT_METHODS",
            "DEFAULT_PROBES",
            "Images",
            "ProbeChoice",
            "create_blend",
            "create_probes",
            "create_spaces",
            "create_standard",
            "images",
            "new_probe_set",
        )
    },
)
