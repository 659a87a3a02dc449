"""The parameters of a request: which there are, their limits, and what is said of a wrong one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelspace.errors import UsageError
from modelspace.names import did_you_mean
from modelspace.spaces.hubness import CORRECTIONS
from modelspace.spaces.rerankings import RERANKINGS

#: Most neighbours, and most models on a page, of one answer.
MOST_K, MOST_MODELS = 1000, 1000
#: Characters of a condition.
LONGEST_WHERE = 2000
#: Characters of a URL's query.
LONGEST_QUERY = 8000


@dataclass(frozen=True)
class Parameter:
    """A parameter of the URL.

    Attributes:
        name: as in the URL.
        text: what it means.
        most: largest number, if it is one; numbers are at least `least`.
        least: smallest number.
        default: what it is if it is not given; None for nothing.
        choices: the allowed values, if it has such.
        required: whether it must be given.
        argument: name of the parameter of `ModelSpace`'s method; default: the same.
    """

    name: str
    text: str
    most: int | None = None
    least: int = 0
    default: int | None = None
    choices: Sequence[str] = ()
    required: bool = False
    argument: str = ""


SPACE = Parameter("space", "Name of the space. Default: the registry's default space.")
WHERE = Parameter("where", "SQL condition on the table models, for example parameters < 1e7. It runs in a sandbox.")
K = Parameter("k", "Number of neighbours.", MOST_K, 1, 5)
HUBS = Parameter(
    "hub_correction", "Correction for hubs. Default: the space's own.", choices=CORRECTIONS, argument="hubs"
)
RERANK = Parameter("rerank", "Re-ranking of the candidates. Default: the space's own.", choices=RERANKINGS)
AFTER = Parameter("after", "What the page before gave as next.", 2**62, 0, 0)
LIMIT = Parameter("limit", "Number of models on a page.", MOST_MODELS, 1, 100)
A = Parameter("a", "Name of a model.", required=True)
B = Parameter("b", "Name of another model.", required=True)


def values_of(parameters: Sequence[Parameter], pairs: Sequence[tuple[str, str]]) -> dict[str, str | int | None]:
    """The values of an endpoint's parameters, by the names of its function's arguments.

    Args:
        parameters: of the endpoint.
        pairs: names and values as in the URL, decoded.

    Raises:
        UsageError: one is unknown, missing, given twice, of the wrong form or out of range.
    """
    known = {parameter.name: parameter for parameter in parameters}
    given: dict[str, str] = {}
    for name, text in pairs:
        if name not in known:
            listed = f"parameters are {', '.join(known)}" if known else "this address takes no parameters"
            raise UsageError(f"there is no parameter {name!r} here", did_you_mean(name, known, listed))
        if name in given:
            raise UsageError(f"the parameter {name} is given twice")
        given[name] = text
    return {parameter.argument or parameter.name: _value(parameter, given) for parameter in parameters}


def _value(parameter: Parameter, given: Mapping[str, str]) -> str | int | None:
    text = given.get(parameter.name)
    if text is None:
        if parameter.required:
            raise UsageError(f"the parameter {parameter.name} is missing")
        return parameter.default
    if parameter.most is not None:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not parameter.least <= int(text) <= parameter.most:
            raise UsageError(f"{parameter.name} must be a whole number in {parameter.least}..{parameter.most}")
        return int(text)
    if parameter.choices and text not in parameter.choices:
        raise UsageError(f"{parameter.name} must be one of {', '.join(parameter.choices)}")
    if "\0" in text or len(text) > LONGEST_WHERE:
        raise UsageError(f"{parameter.name} is longer than {LONGEST_WHERE} characters, or has a null character in it")
    return text
