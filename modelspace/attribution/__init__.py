"""Attribution maps of ΣT, the sum of a model's encoder output, in the model's own input space.

This file only describes the methods, so that a command can list and check them without loading torch. They are computed
in `modelspace.attribution.engine` (`attribute`, `check_target`, `frozen`) and checked in
`modelspace.attribution.ledger`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import field

from modelspace.deprecated import renamed_argument
from modelspace.errors import NotFoundError, UsageError
from modelspace.late import dataclass
from modelspace.plugins import Table

__all__ = ["METHODS", "MethodInfo", "method_parameters"]

Value = float | int | str


@dataclass(frozen=True)
class MethodInfo:
    """One attribution method.

    Attributes:
        name: as users type it; spaces are named after it.
        summary: one line of description.
        signed: whether maps have both signs (saliency does not).
        defaults: the method's parameters and their default values; a value must have the type of its default.
        captum: whether it is computed with passes of its own, by Captum or by a plug-in.
        of_scalar: whether it explains a scalar of the encoder output, and not the whole of it.
        choices: accepted values of the parameters that are strings.
        notice: what a user should know before using it.
        function: of a plug-in, "MODULE:NAME" of what computes it: a function of (forward, x, **parameters) as those in
            `modelspace.attribution.captum_methods`; `captum` is then true.
    """

    name: str
    summary: str
    signed: bool
    defaults: Mapping[str, Value] = field(default_factory=dict)
    captum: bool = False
    of_scalar: bool = True
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notice: str = ""
    function: str = ""


def _check_row(info: MethodInfo) -> None:
    """Refuse a plug-in's method that could not be computed or stored."""
    if not info.captum or ":" not in info.function:
        raise ValueError(f"the method {info.name!r} needs captum=True and function='MODULE:NAME'")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", info.name) or info.name in _TAKEN:
        raise ValueError(f"{info.name!r} can't be the name of a method")
    if forms := sorted(set(info.defaults) & set(_FORM)):
        raise ValueError(f"its parameter {forms[0]!r} has the name of one of every space of maps")
    if texts := [name for name, value in info.defaults.items() if isinstance(value, str) and name not in info.choices]:
        raise ValueError(f"its parameter {texts[0]!r} is a text without choices")


#: Methods of spaces that are none of attribution (`modelspace.spaces.kinds`).
_TAKEN = ("dds", "linear_cka", "rsa", "blend")

#: Parameters of every space of maps (`modelspace.representations.planes`).
_FORM = ("channels", "smoothing", "centring", "scale")

#: Layer-wise relevance propagation through attention, and all methods of it.
ATTENTION_LRP = "attn_lrp"
LRP = ("epsilon_lrp", ATTENTION_LRP)

_OF_LRP: dict[str, Value] = {"epsilon": 1e-4, "offset": "secant"}
_CHOICES_OF_LRP = {"offset": ("secant", "literal")}
# Documentation of rachtibat/LRP-eXplains-Transformers, section License.
_NOTICE_OF_LRP = (
    "The authors of LXT state that LRP is a patented technology that may be used free of charge for personal and "
    "scientific purposes only."
)

#: ε-LRP is computed only on request: it is in none of the standard spaces (`modelspace.spaces.create`).
METHODS: Table[MethodInfo] = Table(
    {
        info.name: info
        for info in (
            MethodInfo("gradient_x_input", "input times the gradient of the sum of the encoder output", signed=True),
            MethodInfo("saliency", "absolute gradient of the sum of the encoder output", signed=False),
            MethodInfo(
                "epsilon_lrp",
                "gradient*input with every nonlinearity's slope replaced by y / (x + epsilon sign x)",
                signed=True,
                defaults=_OF_LRP,
                choices=_CHOICES_OF_LRP,
                notice=_NOTICE_OF_LRP,
            ),
            MethodInfo(
                ATTENTION_LRP,
                "epsilon_lrp whose relevance also flows through the weights of attention (AttnLRP)",
                signed=True,
                defaults=_OF_LRP,
                choices=_CHOICES_OF_LRP,
                notice=_NOTICE_OF_LRP,
            ),
            MethodInfo(
                "sensitivity",
                "root mean square of the gradients of random projections of the encoder output",
                signed=False,
                defaults={"projections": 4},
                of_scalar=False,
            ),
            MethodInfo(
                "integrated_gradients",
                "gradient*input averaged along the line from a uniform input (Captum)",
                signed=True,
                defaults={"n_steps": 32, "baseline": 0.0},
                captum=True,
            ),
            MethodInfo(
                "noise_tunnel",
                "gradient*input or saliency averaged over noisy copies of the input (Captum)",
                signed=True,
                defaults={"base": "gradient_x_input", "n_samples": 8, "noise": 0.15, "seed": 0},
                captum=True,
                choices={"base": ("gradient_x_input", "saliency")},
            ),
        )
    },
    "modelspace.methods",
    MethodInfo,
    "name",
    _check_row,
)

#: Parameters that must be above zero; `seed` and `baseline` may have any value of their type.
_POSITIVE = ("epsilon", "projections", "n_steps", "n_samples", "noise")


@renamed_argument("given", "overrides")
def method_parameters(method: str, overrides: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """The parameters of `method`: its defaults, updated with `overrides`, checked.

    Raises:
        NotFoundError: no such method.
        UsageError: no such parameter, or a value of the wrong type or out of range.

    >>> method_parameters("epsilon_lrp", {"epsilon": 0.01})
    {'epsilon': 0.01, 'offset': 'secant'}
    """
    if method not in METHODS:
        matches = difflib.get_close_matches(method, METHODS, 1, 0.4)
        hint = f"did you mean {matches[0]}? " if matches else ""
        raise NotFoundError(f"no attribution method {method!r}", f"{hint}methods: {', '.join(METHODS)}")
    info = METHODS[method]
    values = dict(info.defaults)
    for name, value in (overrides or {}).items():
        if name not in values:
            known = ", ".join(values) or "none"
            raise UsageError(f"{method} has no parameter {name!r}", f"its parameters: {known}")
        values[name] = _checked(info, name, value)
    return values


def _checked(info: MethodInfo, name: str, value: Value) -> Value:
    default = info.defaults[name]
    error = UsageError(
        f"{info.name} parameter {name}={value!r} is not {_expected(info, name)}", f"the default is {name}={default!r}"
    )
    if isinstance(default, str):
        if value not in info.choices[name]:
            raise error
        return value
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        raise error
    if isinstance(default, int) and value != int(value):
        raise error
    number = int(value) if isinstance(default, int) else float(value)
    if number != number or abs(number) == float("inf") or (name in _POSITIVE and number <= 0):
        raise error
    return number


def _expected(info: MethodInfo, name: str) -> str:
    default = info.defaults[name]
    if isinstance(default, str):
        return "one of " + ", ".join(info.choices[name])
    kind = "a whole number" if isinstance(default, int) else "a number"
    return f"{kind} above zero" if name in _POSITIVE else kind
