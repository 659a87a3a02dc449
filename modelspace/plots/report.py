"""A report of a space: counts, projection, tree, heatmap, duplicates, outliers and hubs, as Markdown or HTML."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from modelspace.analysis.distances import check_affinity, condensed
from modelspace.analysis.neighbours import NeighbourRecall, hubs, hubs_of, neighbour_recall
from modelspace.analysis.outliers import (
    Duplicate,
    Outlier,
    duplicate_groups,
    duplicates,
    duplicates_of,
    outliers,
    outliers_of,
)
from modelspace.analysis.tree import Tree, build_tree
from modelspace.errors import UsageError, unwritable
from modelspace.names import printable
from modelspace.plots.figure import Picture
from modelspace.plots.groups import Colouring, Groups, as_list, in_order
from modelspace.plots.heatmap import heatmap_figure
from modelspace.plots.map import map_figure
from modelspace.plots.tree import tree_figure

# Largest number of rows of a table; longer ones are cut, with a note.
_ROWS = 40


@dataclass(frozen=True)
class Section:
    """One section of a report: text, then a picture or a table.

    Attributes:
        heading: its title.
        words: paragraphs of plain text.
        table: rows of cells, the first is the header; empty for no table.
        picture: a figure, or None.
        picture_name: file name of the picture, without suffix.
    """

    heading: str
    words: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    picture: Picture | None = None
    picture_name: str = ""


@dataclass(frozen=True, eq=False)
class Whole:
    """All models of a report whose tree and heatmap are of a sample, and the nearest models of some of them.

    Attributes:
        names: n model names.
        coordinates: (n, 2) coordinates of the projection.
        groups: (n,) as in `make_report`.
        recall: of the projection.
        caption: printed below it.
        rows: (m,) the models that have lists of neighbours, drawn at random: indices into the names.
        neighbours: (m, k) indices of their nearest models among all n, best first.
        affinities: (m, k) with these.
    """

    names: Sequence[str]
    coordinates: ArrayLike
    groups: Groups
    recall: NeighbourRecall
    caption: str
    rows: np.ndarray
    neighbours: np.ndarray
    affinities: np.ndarray


@dataclass(frozen=True)
class Report:
    """A report. Show it in a notebook, or `save` it as .md (pictures in a folder) or .html (one file).

    Attributes:
        title: of the report.
        sections: in order.
        notes: remarks for the user, which are also in the sections.
    """

    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    def markdown(self, pictures: str = "") -> str:
        """GitHub-flavoured Markdown; pictures are linked as ``<pictures><name>.svg``."""
        lines = [f"# {_md(self.title)}", ""]
        for section in self.sections:
            lines += [f"## {_md(section.heading)}", ""]
            for words in section.words:
                lines += [_md(words), ""]
            if section.picture is not None:
                lines += [f"![{_md(section.heading)}]({pictures}{section.picture_name}.svg)", ""]
            if section.table:
                head, *rows = section.table
                lines.append("| " + " | ".join(map(_md, head)) + " |")
                lines.append("|" + "---|" * len(head))
                lines += ["| " + " | ".join(map(_md, row)) + " |" for row in rows]
                lines.append("")
        return "\n".join(lines).rstrip() + "\n"

    def html(self) -> str:
        """One HTML file without scripts; pictures are embedded."""
        parts = []
        for section in self.sections:
            parts.append(f"<h2>{_html(section.heading)}</h2>")
            parts += [f"<p>{_html(words)}</p>" for words in section.words]
            if section.picture is not None:
                # As an image, not inline SVG, so that browsers don't interpret the names in it.
                code = base64.b64encode(section.picture.to_bytes("svg")).decode("ascii")
                alt = _html(section.heading)
                parts.append(f'<img alt="{alt}" src="data:image/svg+xml;base64,{code}">')
            if section.table:
                head, *rows = section.table
                cells = "".join(f"<th>{_html(cell)}</th>" for cell in head)
                body = "".join("<tr>" + "".join(f"<td>{_html(c)}</td>" for c in row) + "</tr>" for row in rows)
                parts.append(f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>")
        title = _html(self.title)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">\n"
            f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
            + "\n".join(parts)
            + "\n</body>\n</html>\n"
        )

    def save(self, path: str | Path) -> list[Path]:
        """Write the report: .html as one file, .md with its pictures in a folder next to it.

        Returns:
            The files written, the report first.

        Raises:
            UsageError: another suffix, or a file can't be written.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in (".html", ".htm", ".md"):
            raise UsageError(f"{target.name!r} has no suffix of a report", "end it in .html or .md")
        written = [target]
        try:
            if suffix == ".md":
                folder = target.with_name(f"{target.stem}_pictures")
                folder.mkdir(exist_ok=True)
                link = re.sub(r"[^A-Za-z0-9._~-]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), folder.name)
                target.write_text(self.markdown(f"{link}/"), encoding="utf-8", newline="\n")
                for section in self.sections:
                    if section.picture is not None:
                        written.append(section.picture.save(folder / f"{section.picture_name}.svg"))
            else:
                target.write_text(self.html(), encoding="utf-8", newline="\n")
        except OSError as error:
            raise unwritable(target, error) from error
        return written

    def _repr_html_(self) -> str:
        page = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" sandbox width="100%" height="640" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return f"<Report {self.title!r}: {', '.join(section.heading for section in self.sections)}>"


_STYLE = """body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 900px; margin: 2em auto;
  padding: 0 1em; color: #1d2126; background: #fff; }
img { width: 100%; margin: 0.5em 0 1em; }
table { border-collapse: collapse; margin: 0.5em 0 1.5em; }
th, td { text-align: left; padding: 2px 14px 2px 0; border-bottom: 1px solid #d9dde1; overflow-wrap: anywhere; }
td:first-child { min-width: 11em; }
h2 { margin-top: 2em; }
"""


def make_report(
    names: Sequence[str],
    affinity: ArrayLike,
    groups: Groups = None,
    *,
    coordinates: ArrayLike | None = None,
    tree: Tree | None = None,
    facts: Mapping[str, str] | None = None,
    threshold: float = 0.98,
    neighbours: tuple[ArrayLike, ArrayLike] | None = None,
    whole: Whole | None = None,
    more: Sequence[Section] = (),
    group_by: str = "",
    title: str = "Report of a space",
    caption: str = "",
    notes: Sequence[str] = (),
) -> Report:
    """Create a report.

    Args:
        names: n model names.
        affinity: (n, n), symmetric, unit diagonal.
        groups: the group of each model, by name or in order; 3 or more different numbers are drawn as a scale.
        coordinates: (n, 2) coordinates of the projection; None: no projection.
        tree: of the same models; None: average linkage.
        facts: further facts of the space, name -> value, for example method and probe set; printed first.
        threshold: minimum affinity of duplicates.
        neighbours: indices of each model's nearest (n, k), best first, and their affinities (n, k); None: no list of
            neighbours.
        whole: more models, of which these are a sample. The map then shows all of them (`coordinates` and `neighbours`
            are ignored), and what is said of neighbours is said of some of them.
        more: further sections, placed last.
        group_by: what the groups are; printed beside a scale of numbers.
        title: of the report.
        caption: printed below each picture.
        notes: of the report.

    Raises:
        UsageError: as in `check_affinity` and the figures.
    """
    matrix = check_affinity(names, affinity)
    names = list(names)
    n = len(names)
    if tree is None:
        tree = build_tree(names, matrix)
    facts = dict(facts or {})
    if whole is not None:
        facts |= {"all models": f"{len(whole.names):,}, of which a sample that covers the others is compared below"}
    sections = [_counts(names, matrix, groups, facts)]
    if whole is not None:
        sections.append(_map(whole.names, whole.coordinates, whole.groups, whole.recall, group_by, whole.caption))
    elif coordinates is not None:
        recall = neighbour_recall(coordinates, affinity=matrix)
        sections.append(_map(names, coordinates, groups, recall, group_by, caption))
    by_name = dict(zip(names, in_order(names, groups), strict=True))
    of = "" if whole is None else f" Of {n:,} of the {len(whole.names):,} models, chosen to cover the others."
    picture = tree_figure(tree, in_order(tree.names, by_name), group_by=group_by, caption=caption)
    words = (f"Clusters by {tree.method} linkage of the distances √(2 − 2s).{of}",)
    sections.append(Section("Tree", words, picture=picture, picture_name="tree"))
    picture = heatmap_figure(names, matrix, groups, tree=tree, group_by=group_by, caption=caption)
    words = (f"Affinities in the order of the tree's leaves; a model's affinity with itself is gray.{of}",)
    sections.append(Section("Affinities", words, picture=picture, picture_name="heatmap"))
    if whole is not None:
        sections += _of_lists(whole, threshold)
    else:
        if neighbours is not None:
            sections.append(_nearest(names, range(n), np.asarray(neighbours[0]), np.asarray(neighbours[1])))
        frequent = hubs(names, matrix) if n > 6 else []
        sections += _findings(names, duplicates(names, matrix, threshold), outliers(names, matrix), frequent, threshold)
    return Report(title, (*sections, *more), tuple(notes))


def _map(
    names: Sequence[str],
    coordinates: ArrayLike,
    groups: Groups,
    recall: NeighbourRecall,
    group_by: str,
    caption: str,
) -> Section:
    picture = map_figure(names, coordinates, groups, recall=recall, group_by=group_by, caption=caption)
    words = (f"Only distances are meaningful on this map, not its axes, and they are approximate: {recall}.",)
    return Section("Map", words, picture=picture, picture_name="map")


def _of_lists(whole: Whole, threshold: float) -> list[Section]:
    """The sections on neighbours, of the models that have lists of them."""
    names, rows, near, values = list(whole.names), whole.rows, whole.neighbours, whole.affinities
    m, k = near.shape
    of = f"Found among the {k} nearest of {m:,} models drawn at random, which were compared with all {len(names):,}."
    sections = [
        _nearest(names, rows.tolist(), near, values, "The model of largest affinity with each."),
        *_findings(
            names,
            duplicates_of(names, rows, near, values, threshold),
            outliers_of(names, rows, near, values[:, :3]),
            hubs_of(names, near),
            threshold,
        ),
    ]
    return [replace(section, words=(of, *section.words)) for section in sections]


def _findings(
    names: list[str],
    pairs: Sequence[Duplicate],
    isolated: Sequence[Outlier],
    frequent: Sequence[tuple[str, int]],
    threshold: float,
) -> list[Section]:
    """The sections on duplicates, outliers and hubs."""
    copies = duplicate_groups(names, pairs)
    words = (f"Pairs with an affinity of {threshold:g} or more: {len(pairs):,}, in groups of models: {len(copies):,}.",)
    rows: list[tuple[str, ...]] = [
        ("model", "model", "affinity"),
        *((p.first, p.second, f"{p.affinity:.4f}") for p in pairs),
    ]
    sections = [Section("Duplicates", *_cut(words, rows))]
    words = ("Models whose mean distance to their 3 nearest models is 3 or more robust deviations above the median.",)
    rows = [("model", "nearest", "affinity", "score")]
    rows += [(x.name, x.nearest, f"{x.affinity:.4f}", f"{x.score:.1f}") for x in isolated]
    sections.append(Section("Outliers", *_cut(words, rows)))
    words = (
        "Models among the 5 nearest of more than 20 others: they are near to most models, so they are uninformative.",
    )
    rows = [("model", "neighbour lists"), *((name, str(count)) for name, count in frequent)]
    sections.append(Section("Hubs", *_cut(words, rows)))
    return sections


def _nearest(
    names: list[str],
    models: Iterable[int],
    numbers: np.ndarray,
    affinities: np.ndarray,
    words: str = "The first transfer source of each model, as ranked by the space.",
) -> Section:
    """Models with their best transfer sources; `models` and `numbers` are indices into the names."""
    rows: list[tuple[str, ...]] = [("model", "first source", "affinity")]
    if numbers.shape[1]:
        rows += [(names[row], names[numbers[i, 0]], f"{affinities[i, 0]:.4f}") for i, row in enumerate(models)]
    return Section("Nearest", *_cut((words,), rows))


def _counts(names: list[str], matrix: np.ndarray, groups: Groups, facts: Mapping[str, str]) -> Section:
    rows = [("", "value"), *((name, str(value)) for name, value in facts.items()), ("models", f"{len(names):,}")]
    colouring = Colouring.of(names, groups)
    if colouring.scale is not None:
        rows.append(("lowest and highest value", " and ".join(colouring.scale.ends())))
    elif colouring.kinds:
        counts = Counter(group if group is not None else "no group" for group in as_list(names, groups))
        rows.append(("groups", ", ".join(f"{group} {count:,}" for group, count in counts.most_common())))
    between = condensed(matrix)
    if len(between):
        low, quarter, median, upper, high = np.percentile(between, [0, 25, 50, 75, 100])
        rows.append(("affinity, lowest and highest", f"{low:.4f} and {high:.4f}"))
        rows.append(("affinity, median and quartiles", f"{median:.4f} ({quarter:.4f}, {upper:.4f})"))
    return Section("Counts", table=tuple(rows))


def _cut(words: tuple[str, ...], rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The words and the table, cut if it is long; "None." if it is empty."""
    if len(rows) == 1:
        return (*words, "None."), ()
    if len(rows) > _ROWS + 1:
        return (*words, f"The first {_ROWS} of {len(rows) - 1:,} are listed."), tuple(rows[: _ROWS + 1])
    return words, tuple(rows)


def _html(text: str) -> str:
    """Text escaped for HTML, also in an attribute; control characters are shown."""
    return html.escape(printable(text), quote=True)


def _md(text: str) -> str:
    """Text escaped for Markdown: no markup, no HTML, no line breaks."""
    line = printable(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", line)
