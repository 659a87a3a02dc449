"""The text of a user's condition on the models: names in it, tags as columns, and what was probably meant.

Nothing here runs a condition; `modelspace.registry.sql` does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from modelspace.names import did_you_mean

#: Columns of the table `models` that a condition is likely to name, for hints.
COMMON = ("name", "task", "data", "architecture", "parameters", "layer", "uri", "seconds", "input_height")

#: Tags that a hint lists.
_SHOWN_TAGS = 10

#: Texts, quoted names, comments, words, the operators that matter here, and any other character.
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*') | "(?P<quoted>(?:[^"]|"")*)" | (?P<comment>--[^\n]*|/\*.*?\*/)"""
    r"""| (?P<word>[^\W\d]\w*) | (?P<unequal><>|!=) | .""",
    re.VERBOSE | re.DOTALL,
)

#: What DuckDB says of a name that is no column, or of a table before a dot; double quotes are doubled inside.
_UNKNOWN = re.compile(r'Referenced (?:column|table) "((?:[^"]|"")*)" not found')

#: What a compared value follows.
_COMPARED = re.compile(r"(?:[=<>]|\b(?:like|ilike|from|between|and))\s*$|\bin\s*\([^()]*$", re.IGNORECASE)

#: The rest of an unquoted text whose first word DuckDB took for a column, as in ResNet-18.
_REST = re.compile(r"(?:[-./:@+]\w+)*")


def tags_named(condition: str, tags: Iterable[str], columns: Collection[str]) -> list[str]:
    """The tags that a condition names as if they were columns; a column of the same name comes first.

    >>> tags_named("group = '2D' AND task = 'depth'", ["group", "task", "licence"], ["task"])
    ['group']
    """
    names = {name.lower() for name in _names(condition)} - {column.lower() for column in columns}
    return [tag for tag in tags if tag.lower() in names]


def _names(condition: str) -> Iterator[str]:
    for token in _TOKEN.finditer(condition):
        if token["word"]:
            yield token["word"]
        elif token["quoted"] is not None:
            yield token["quoted"].replace('""', '"')


def with_quoted_names(condition: str, names: Iterable[str]) -> str:
    """The condition with these names in double quotes, since one may be a reserved word.

    >>> with_quoted_names("group = 'group' AND name IN (SELECT name FROM models GROUP BY name)", ["group"])
    '"group" = \\'group\\' AND name IN (SELECT name FROM models GROUP BY name)'
    """
    known = {name.lower() for name in names}

    def replaced(token: re.Match[str]) -> str:
        if (token["word"] or "").lower() not in known or re.match(r"\s+by\b", condition[token.end() :], re.IGNORECASE):
            return token[0]
        return identifier(token[0])

    return _TOKEN.sub(replaced, condition)


def identifier(name: str) -> str:
    """A name in double quotes.

    >>> identifier('6" pipe')
    '"6"" pipe"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in single quotes.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def models_with(tags: Iterable[str]) -> str:
    """The table `models` with tags as further columns, as a subquery of that name."""
    # Qualified, since a registry could hold a macro of this name.
    columns = "".join(f", system.main.map_extract_value(tags, {literal(tag)}) AS {identifier(tag)}" for tag in tags)
    return f"(SELECT *{columns} FROM main.models) AS models"


def is_closed(condition: str) -> bool:
    """Whether a condition closes no parenthesis that it has not opened.

    >>> is_closed("(a = ')')"), is_closed("a = 1) OR (b = 2")
    (True, False)
    """
    depth = 0
    for token in _TOKEN.finditer(condition):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth < 0:
            return False
    return True


def null_safe(condition: str) -> str:
    """The condition in which a missing value is unequal to any other.

    >>> null_safe("task <> 'a <> b' AND data!='c'")
    "task IS DISTINCT FROM 'a <> b' AND data IS DISTINCT FROM 'c'"
    """

    def replaced(token: re.Match[str]) -> str:
        if not token["unequal"]:
            return token[0]
        before, after = condition[: token.start()], condition[token.end() :]
        left = "" if before.endswith((" ", "\n")) else " "
        right = "" if after.startswith((" ", "\n")) else " "
        return f"{left}IS DISTINCT FROM{right}"

    return _TOKEN.sub(replaced, condition)


def calls(text: str, functions: Collection[str]) -> list[tuple[str, str]]:
    """The calls of some functions in a query: (name, text from its first argument on), each name and text once.

    >>> calls("FROM main.Nearest ('a', 3) -- nearest('b')", ["nearest"])
    [('nearest', "'a', 3) -- nearest('b')")]
    >>> calls("SELECT nearest, 'nearest(1)' FROM nearest_in('s', 'a')", ["nearest"])
    []
    """
    named: dict[tuple[str, str], None] = {}
    for token in _TOKEN.finditer(text):
        name = (token["word"] or "").lower()
        opening = re.match(r"\s*\(", text[token.end() :])
        if name in functions and opening:
            named[name, text[token.end() + opening.end() :]] = None
    return list(named)


def unknown_name(message: str) -> str | None:
    """The name that is no column, by DuckDB's message."""
    match = _UNKNOWN.search(message)
    return match[1].replace('""', '"') if match else None


def with_quoted_text(condition: str, name: str) -> str | None:
    """The condition with an unknown name as a text, if it is where a value is expected.

    >>> with_quoted_text("architecture = ResNet-18", "ResNet")
    "architecture = 'ResNet-18'"
    >>> with_quoted_text('task IN ("flowers", birds)', "flowers")
    "task IN ('flowers', birds)"
    >>> with_quoted_text("taks = 'depth'", "taks") is None
    True
    """
    for token in _TOKEN.finditer(condition):
        text = token["word"] if token["quoted"] is None else token["quoted"].replace('""', '"')
        if (text or "").lower() != name.lower() or not _COMPARED.search(condition[: token.start()]):
            continue
        end = token.end()
        if token["word"]:
            rest = _REST.match(condition, end)
            assert rest is not None
            text, end = f"{text}{rest[0]}", rest.end()
        return f"{condition[: token.start()]}{literal(text)}{condition[end:]}"
    return None


def hint_for_name(name: str, tags: Sequence[str]) -> str:
    """The hint for a name that is neither a column nor a tag.

    >>> hint_for_name("taks", [])
    'did you mean task?'
    """
    shown = ", ".join(tags[:_SHOWN_TAGS]) or "none"
    otherwise = f"columns are {', '.join(COMMON)}; tags are {shown}{', ...' if len(tags) > _SHOWN_TAGS else ''}"
    return did_you_mean(name, [*COMMON, *tags], otherwise)
