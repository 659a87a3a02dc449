"""What a registry is created with if its user does not say otherwise. Apart, since queries need nothing of it."""

#: Attribution methods; each makes a space.
DEFAULT_METHODS = ("gradient_x_input",)

#: Side of the stored maps, in elements.
DEFAULT_CANVAS = 64

#: The probe set.
DEFAULT_PROBES = "rooms"
