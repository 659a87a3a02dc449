"""The fields of `modelspace.types.Preprocessing` that can be written as text: in a command, a manifest, a model's file.

They are defined once, in `FIELDS`: `PreprocessingFlags.parse` and `from_dict`, the options of `modelspace add` with
their help, the keys of a manifest and the examples in hints are derived from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from modelspace.deprecated import renamed
from modelspace.errors import UsageError
from modelspace.late import dataclass
from modelspace.types import CHANNEL_ORDERS, CROPS, INTERPOLATIONS, LAYOUTS


@dataclass(frozen=True)
class Form:
    """How values of one kind are written.

    Attributes:
        parse: from text to the value; ValueError for an invalid text.
        convert: from a value of Python, TOML or JSON; TypeError or ValueError if it is invalid.
        write: from a value to the words of a command line.
        error: the error message for a text that can't be parsed, without its subject.
        numbers: whether it is a list of numbers, which may be separated by blanks in the cell of a table.
    """

    parse: Callable[[str], Any]
    convert: Callable[[Any], Any]
    write: Callable[[Any], tuple[str, ...]]
    error: str
    numbers: bool = False


def _parse_size(text: str) -> tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(text)
    return int(sides[0]), int(sides[-1])


def _convert_size(value: Any) -> tuple[int, ...]:
    return (int(value), int(value)) if isinstance(value, int) else tuple(map(int, value))


def _write_size(value: Any) -> tuple[str]:
    sides = _convert_size(value)
    return (str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides)),)


def _parse_numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _convert_numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(map(float, value))


def _write_numbers(value: Any) -> tuple[str, ...]:
    return tuple(f"{number:g}" for number in _convert_numbers(value))


def _parse_range(text: str) -> tuple[float, float]:
    lo, hi = _parse_numbers(text)
    return lo, hi


def _identity(value: Any) -> Any:
    return value


#: A side in pixels, or height and width.
SIZE = Form(_parse_size, _convert_size, _write_size, "is neither a side nor HEIGHTxWIDTH in pixels")
#: One number per channel, or one for all.
NUMBERS = Form(
    _parse_numbers,
    _convert_numbers,
    lambda value: (",".join(_write_numbers(value)),),
    "is not a comma-separated list of numbers",
    numbers=True,
)
#: A lowest and a highest number.
RANGE = Form(_parse_range, _convert_numbers, _write_numbers, "is not a lowest and a highest value", numbers=True)
NUMBER = Form(float, _identity, _write_numbers, "is not a number")
WORD = Form(str.lower, _identity, lambda value: (str(value),), "is not a word")


@dataclass(frozen=True)
class Field:
    """One row of `FIELDS`.

    Attributes:
        name: of the field in `modelspace.types.Preprocessing`, and of the key in a manifest; with dashes, of the flag.
        form: how its values are written.
        metavar: the placeholder for its value in help texts; several words if the flag takes several values.
        help: its help text.
        examples: values in Python, the most common first.
    """

    name: str
    form: Form
    metavar: str
    help: str
    examples: tuple[Any, ...]

    def read(self, text: str) -> Any:
        """Parse the value of the field.

        Raises:
            UsageError: the text is invalid; names the field.
        """
        try:
            return self.form.parse(text)
        except ValueError as error:
            raise UsageError(
                f"`{self.name}={text!r}` {self.form.error}",
                f"example: {', or '.join(f'`{self.name}={example!r}`' for example in self.examples)}",
            ) from error


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        row.name: row
        for row in (
            Field("input_size", SIZE, "S", "Side of the input in pixels, or HEIGHTxWIDTH.", (224, (192, 256))),
            Field("mean", NUMBERS, "R,G,B", "Subtracted from the input, per channel.", ((0.485, 0.456, 0.406),)),
            Field("std", NUMBERS, "R,G,B", "Divisor of the input, per channel.", ((0.229, 0.224, 0.225),)),
            Field("channels", WORD, "|".join(CHANNEL_ORDERS), "Order of the input's channels.", ("gray",)),
            Field("value_range", RANGE, "LO HI", "Input values of pixels 0 and 255, before mean and std.", ((0, 255),)),
            Field(
                "resize",
                SIZE,
                "S",
                "Resize the shorter side of the image to S, or the image to HEIGHTxWIDTH, then crop the centre to the "
                "input size.",
                (256, (256, 320)),
            ),
            Field(
                "crop",
                WORD,
                "|".join(CROPS),
                "How a resized image fits its box: covers it (center), is stretched to it (squash), or lies in it "
                "(border).",
                ("center",),
            ),
            Field("interpolation", WORD, "|".join(INTERPOLATIONS), "How the image is resized.", ("bicubic",)),
            Field("layout", WORD, "|".join(LAYOUTS), "Order of the input's axes.", ("nhwc",)),
            Field("alpha", NUMBER, "A", "Value of the fourth channel of rgba. Default: 1.", (1.0,)),
        )
    }
)


def preprocessing_hint(**values: Any) -> str:
    """The argument that sets some of the fields, for hints.

    >>> preprocessing_hint(channels="gray", resize=(256, 256))
    "`preprocessing={'channels': 'gray', 'resize': 256}`"
    """
    short = {
        name: value[0] if FIELDS[name].form is SIZE and not isinstance(value, int) and len(set(value)) == 1 else value
        for name, value in values.items()
    }
    return f"`preprocessing={short!r}`"


__getattr__ = renamed(__name__, {"stating": "preprocessing_hint"})
