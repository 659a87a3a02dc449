"""What a registry is created with if its user does not say otherwise. Apart, since queries need nothing of it."""

#: Attribution methods; each makes a space.
DEFAULT_METHODS = ("gradient_x_input",)

#: Side of the stored maps, in elements: with the bits of `MapSpace.default_bits`, 27 kB a model at 200 images. Larger
#: maps rank no better (docs/lab-book/weight.md), and show more in pictures.
DEFAULT_CANVAS = 16

#: The probe set.
DEFAULT_PROBES = "rooms"
