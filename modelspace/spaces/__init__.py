"""Spaces, where models are compared: affinities, coordinates, the index, and how neighbours are ranked."""

from modelspace.deprecated import renamed

__getattr__ = renamed(
    __name__,
    {
        **{
            name: f"modelspace.spaces.create.{name}"
            for name in (
                "DEFAULT_BITS",
                "DEFAULT_CANVAS",
                "DEFAULT_METHODS",
                "create_blend",
                "create_spaces",
                "create_standard",
            )
        },
        **{
            name: f"modelspace.spaces.probe_sets.{name}"
            for name in ("DEFAULT_PROBES", "Images", "ProbeChoice", "create_probes", "images", "new_probe_set")
        },
        "DEFAULT_IMAGES": "modelspace.probes.base.DEFAULT_IMAGES",
    },
)
