"""The fields of `modelspace.types.Preprocessing` that can be written as text: in a command, a manifest, a model's file.

`FIELDS` is the one table of them. `PreprocessingFlags.parse` and `from_dict`, the options of `modelspace add` with
their help, the keys of a manifest and the examples in hints all come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from modelspace.errors import UsageError
from modelspace.types import CHANNEL_ORDERS, CROPS, INTERPOLATIONS, LAYOUTS


@dataclass(frozen=True)
class Form:
    """How values of one kind are written.

    Attributes:
        read: from text to the value; ValueError where the text is none.
        settle: from what Python, TOML or JSON have to the value; TypeError or ValueError where it is none.
        write: from a value to the words of a command line.
        refusal: what is said of a text that can't be read.
        numbers: whether it is a list of numbers, which a table's cell may separate by blanks.
    """

    read: Callable[[str], Any]
    settle: Callable[[Any], Any]
    write: Callable[[Any], tuple[str, ...]]
    refusal: str
    numbers: bool = False


def _read_size(text: str) -> tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(text)
    return int(sides[0]), int(sides[-1])


def _settle_size(value: Any) -> tuple[int, ...]:
    return (int(value), int(value)) if isinstance(value, int) else tuple(map(int, value))


def _write_size(value: Any) -> tuple[str]:
    sides = _settle_size(value)
    return (str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides)),)


def _read_numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _settle_numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(map(float, value))


def _write_numbers(value: Any) -> tuple[str, ...]:
    return tuple(f"{number:g}" for number in _settle_numbers(value))


def _read_range(text: str) -> tuple[float, float]:
    lo, hi = _read_numbers(text)
    return lo, hi


def _as_it_is(value: Any) -> Any:
    return value


#: A side in pixels, or height and width.
SIZE = Form(_read_size, _settle_size, _write_size, "is neither a side nor HEIGHTxWIDTH in pixels")
#: One number per channel, or one for all.
NUMBERS = Form(
    _read_numbers,
    _settle_numbers,
    lambda value: (",".join(_write_numbers(value)),),
    "is not a list of numbers with commas between them",
    numbers=True,
)
#: A lowest and a highest number.
RANGE = Form(_read_range, _settle_numbers, _write_numbers, "is not a lowest and a highest value", numbers=True)
NUMBER = Form(float, _as_it_is, _write_numbers, "is not a number")
WORD = Form(str.lower, _as_it_is, lambda value: (str(value),), "is not a word")


@dataclass(frozen=True)
class Field:
    """One row of `FIELDS`.

    Attributes:
        name: of the field in `modelspace.types.Preprocessing`, and of the key in a manifest; with dashes, of the flag.
        form: how its values are written.
        metavar: what stands for its value in help texts; of several words, those that a flag takes one after another.
        help: what it is.
        examples: values as Python writes them, the most usual one first.
    """

    name: str
    form: Form
    metavar: str
    help: str
    examples: tuple[Any, ...]

    def read(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            UsageError: it stands for none; names the field.
        """
        try:
            return self.form.read(text)
        except ValueError as error:
            raise UsageError(
                f"`{self.name}={text!r}` {self.form.refusal}",
                f"example: {', or '.join(f'`{self.name}={example!r}`' for example in self.examples)}",
            ) from error


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        row.name: row
        for row in (
            Field("input_size", SIZE, "S", "Side of the input in pixels, or HEIGHTxWIDTH.", (224, (192, 256))),
            Field("mean", NUMBERS, "R,G,B", "Subtracted from the input, per channel.", ((0.485, 0.456, 0.406),)),
            Field("std", NUMBERS, "R,G,B", "What the input is divided by, per channel.", ((0.229, 0.224, 0.225),)),
            Field("channels", WORD, "|".join(CHANNEL_ORDERS), "Order of the input's channels.", ("gray",)),
            Field("value_range", RANGE, "LO HI", "What 0 and 255 become before mean and std.", ((0, 255),)),
            Field(
                "resize",
                SIZE,
                "S",
                "Resize the image to this side (the shorter one), or HEIGHTxWIDTH, and take the middle of the input's "
                "size.",
                (256, (256, 320)),
            ),
            Field(
                "crop",
                WORD,
                "|".join(CROPS),
                "With a resize: whether the image covers that box, takes its shape, or lies within it.",
                ("center",),
            ),
            Field("interpolation", WORD, "|".join(INTERPOLATIONS), "How the image is resized.", ("bicubic",)),
            Field("layout", WORD, "|".join(LAYOUTS), "Order of the input's axes.", ("nhwc",)),
            Field("alpha", NUMBER, "A", "Value of the fourth channel of rgba. Default: 1.", (1.0,)),
        )
    }
)


def stating(**values: Any) -> str:
    """How some of the fields are stated in a call, for hints.

    >>> stating(channels="gray", resize=(256, 256))
    "`preprocessing={'channels': 'gray', 'resize': 256}`"
    """
    short = {
        name: value[0] if FIELDS[name].form is SIZE and not isinstance(value, int) and len(set(value)) == 1 else value
        for name, value in values.items()
    }
    return f"`preprocessing={short!r}`"
