"""Groups of options: one parameter of a command's function, several options on the command line.

    @dataclass(frozen=True)
    class Selection(Group):
        space: options.Space = None
        where: options.Where = None

    @grouped
    def command(selection: Selection) -> None: ...

is a command with the options `--space` and `--where` for typer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Self, get_type_hints

import typer

from modelspace.cli import completion, options
from modelspace.cli.spelling import flag
from modelspace.late import dataclass
from modelspace.sources.fields import FIELDS, Field


class Group:
    """A group of options; a dataclass with an option, or a nested group, for each field."""

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """The parameters that replace the group in the command's signature, annotated for typer."""
        kinds = get_type_hints(cls, include_extras=True)
        flat: list[Parameter] = []
        for entry in fields(cls):  # type: ignore[arg-type]  # only subclasses are dataclasses
            default = Parameter.empty if entry.default is MISSING else entry.default
            flat += _flattened(Parameter(entry.name, Parameter.KEYWORD_ONLY, default=default), kinds[entry.name])
        return flat

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> Self:
        """Create the group from the values of a command's parameters, which are removed from `values`."""
        kinds = get_type_hints(cls, include_extras=True)
        names = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]  # as above
        return cls(**{name: _taken(name, kinds[name], values) for name in names})


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A function for typer, in which the parameters that are groups are replaced by their options."""
    kinds = get_type_hints(command, include_extras=True)
    parameters = signature(command).parameters
    flat = [each for parameter in parameters.values() for each in _flattened(parameter, kinds[parameter.name])]

    @wraps(command)
    def from_the_command_line(**values: Any) -> None:
        command(**{name: _taken(name, kinds[name], values) for name in parameters})

    from_the_command_line.__signature__ = Signature(flat)  # type: ignore[attr-defined]  # `inspect.signature` reads it
    from_the_command_line.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return from_the_command_line


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Group)


def _flattened(parameter: Parameter, kind: Any) -> list[Parameter]:
    if _is_group(kind):
        parameters: list[Parameter] = kind.parameters()
        return parameters
    # Keyword-only, so that a required option may follow one with a default.
    return [parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind)]


def _taken(name: str, kind: Any, values: dict[str, Any]) -> Any:
    return kind.taken_from(values) if _is_group(kind) else values.pop(name)


# ---- the groups


class InputOptions(Group):
    """Preprocessing options: one for each row of `modelspace.sources.fields.FIELDS`.

    Args:
        texts: field name to the text given on the command line, or None.
    """

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = options.given(**texts)

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """One optional parameter per field."""
        return [
            Parameter(row.name, Parameter.KEYWORD_ONLY, default=None, annotation=_option(row))
            for row in FIELDS.values()
        ]

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> Self:
        """Create the group from the values of a command's parameters, which are removed from `values`."""
        texts = {name: values.pop(name) for name in FIELDS}
        # Options with several values become one text; an absent one is None or () depending on the version of typer.
        return cls(
            {name: ",".join(words) or None if isinstance(words, tuple) else words for name, words in texts.items()}
        )

    def flags(self) -> Any:
        """The options as `modelspace.sources.PreprocessingFlags`, or None if none was given.

        Raises:
            UsageError: a text can't be parsed.
        """
        from modelspace.sources import PreprocessingFlags

        return PreprocessingFlags.parse(**self.texts) if any(self.texts.values()) else None


def _option(row: Field) -> Any:
    several = len(row.metavar.split())
    kind = str if several == 1 else tuple[(str,) * several]  # type: ignore[misc]  # a length known at run time
    return Annotated[kind | None, typer.Option(flag(row.name), metavar=row.metavar, show_default=False, help=row.help)]


@dataclass(frozen=True)
class Messages(Group):
    """What a command prints besides data."""

    quiet: options.Quiet = False
    verbose: options.Verbose = False


@dataclass(frozen=True)
class Files(Group):
    """The weights of a model, and the file whose code may run."""

    weights: options.Weights = None
    weights_key: options.WeightsKey = None
    trust_code: options.TrustCode = None

    def given(self) -> dict[str, Any]:
        """Those that were given, by name."""
        return options.given(weights=self.weights, weights_key=self.weights_key, trust_code=self.trust_code)


@dataclass(frozen=True)
class Loading(Group):
    """How a model is loaded, and which of its layers is explained."""

    files: Files
    layer: options.Layer = None
    float32: options.Float32 = False
    dtype: options.Dtype = None
    stochastic: options.Stochastic = None
    max_seconds: options.MaxSeconds = None
    preprocessing: InputOptions = field(default_factory=lambda: InputOptions({}))

    def as_typed(self) -> dict[str, Any]:
        """The given options, as on the command line."""
        return {**self._without_preprocessing(), **self.preprocessing.texts}

    def arguments(self) -> dict[str, Any]:
        """The given options, as arguments of `modelspace.workspace.ModelSpace`'s methods."""
        return {**self._without_preprocessing(), **options.given(preprocessing=self.preprocessing.flags())}

    def _without_preprocessing(self) -> dict[str, Any]:
        loading = options.given(
            layer=self.layer,
            float32=self.float32 or None,
            dtype=self.dtype,
            stochastic=self.stochastic,
            max_seconds=self.max_seconds,
        )
        return {**self.files.given(), **loading}


@dataclass(frozen=True)
class Metadata(Group):
    """The metadata of a model."""

    task: options.Task = None
    data: options.Data = None
    tag: options.Tag = None

    def as_typed(self) -> dict[str, Any]:
        """The given options, as on the command line."""
        return options.given(task=self.task, data=self.data, tag=self.tag or None)

    def arguments(self) -> dict[str, Any]:
        """The options as arguments of `ModelSpace.add`."""
        return {"task": self.task, "data": self.data, "tags": options.pairs(self.tag)}


@dataclass(frozen=True)
class Selection(Group):
    """Which models a picture shows, in which space, and how they are grouped."""

    space: options.Space = None
    where: options.Where = None
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="COLUMN",
            show_default=False,
            autocompletion=completion.tags,
            help="Column or tag to colour by; numbers have a scale. Default: the tag 'group' if a model has it, "
            "else the task.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The options as arguments of `modelspace.workspace.ModelSpace`'s methods that draw."""
        return {"space": self.space, "where": self.where, "group_by": self.group_by}
