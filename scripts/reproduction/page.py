"""The page docs/lab-book/reproduction.md from the results of the sections."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import modelspace
from modelspace.evaluation import Evaluation
from modelspace.evaluation.comparison import cell
from modelspace.plots.figure import Picture
from reproduction.verdicts import Verdict

COMMAND = "make reproduce"

#: Columns of a line of prose.
WIDTH = 118

HEAD = """\
# Reproduction: the paper's claims, checked

<!-- Written by scripts/reproduce.py: change that, and run it again. -->

```
make reproduce
```

Song et al. ("Deep Model Transferability from Attribution Maps", NeurIPS 2019) make eight claims. This page checks
each of them on the networks of [the zoo](zoo.md) and reports the outcome, whatever it is. Each verdict follows from
the numbers below it, by the rule that is stated with it. The rules
([verdicts.py](../../scripts/reproduction/verdicts.py)) were written before these numbers were computed, though some
of them were known from [elsewhere](evaluation.md); that of section 9 was made stricter afterwards (the probe set
yards was added to it).
"""

LIMITS = """\
## What this can and cannot say

- The networks are small (the twenty encoders have 96,384 parameters each, of one architecture and one seed) and were
  trained on rendered worlds. Nothing here says how it turns out for large networks on photographs.
- The oracle `rooms` was measured with these very networks, in the world they were trained in; `yards` with the same
  networks in another world; `taskonomy` is the published order of other networks for tasks of the same names.
- Intervals are percentile bootstrap intervals over the targets, at 95 %, 2,000 draws, the same for all methods. There
  are 18 targets, so they are wide. They don't include the variation between network seeds, since there is one seed.
- Many intervals are reported, and none is corrected for multiple comparisons.
"""


@dataclass
class Section:
    """The result for one claim.

    Attributes:
        number: of the heading.
        title: of the heading.
        paper: the authors' claim.
        here: the experiment.
        rule: of the verdict, in words.
        verdict: the outcome.
        key: numbers for the summary.
        body: tables and notes, in Markdown.
        pictures: file name to (caption, picture).
        seconds: processor time, passes included.
    """

    number: int
    title: str
    paper: str
    here: str
    rule: str
    verdict: Verdict
    key: str
    body: list[str] = field(default_factory=list)
    pictures: dict[str, tuple[str, Picture]] = field(default_factory=dict)
    seconds: float = 0.0

    def to_markdown(self) -> str:
        """The section, with links to its pictures in the folder reproduction/."""
        lines = [
            f"## {self.number}. {self.title}",
            f"**The paper.** {self.paper}",
            f"**Here.** {self.here}",
            f"**Rule.** {self.rule}",
            f"**Verdict: {self.verdict.word}.** {_capital(self.verdict.sentence)}",
            *(f"![{text}](reproduction/{name})" for name, (text, _) in self.pictures.items()),
            *self.body,
        ]
        return "\n\n".join(lines) + "\n"

    def summary(self) -> str:
        """The section's row of the summary."""
        link = f"{self.number}-" + "".join(c for c in self.title.lower().replace(" ", "-") if c.isalnum() or c == "-")
        return f"| [{self.number}](#{link}) | {self.title} | **{self.verdict.word}** | {self.key} |"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith(("gradient", "`")) else text


def page(summaries: Sequence[str], sections: Sequence[str], seconds: float, passes: float) -> str:
    """The whole page."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy"))
    packages += f", modelspace {modelspace.__version__}"
    table = ["| claim | | verdict | key numbers |", "| --- | --- | --- | --- |", *summaries]
    note = (
        f"`{COMMAND}` writes this page and its pictures; `python scripts/reproduce.py --only 3,5` some of its "
        "sections. Processor time of a complete run, on one thread: "
        f"{(seconds + passes) / 60:.0f} minutes, of which the networks' passes {passes / 60:.0f}; they are kept in "
        f"`.cache/reproduce`, and a second run takes {seconds / 60:.0f}. Made with Python "
        f"{platform.python_version()}, {packages}."
    )
    return wrapped("\n".join([HEAD, *table, "", note, "", LIMITS, *sections]))


def wrapped(text: str) -> str:
    """The text with its long lines of prose broken; headings, tables and pictures stay whole."""
    out = []
    for line in text.split("\n"):
        if len(line) <= WIDTH or line.startswith(("|", "#", "![")):
            out.append(line)
        else:
            # A line that begins with + or - would become a list.
            joined = line.replace(" + ", "\0+\0").replace(" - ", "\0-\0")
            out += (part.replace("\0", " ") for part in textwrap.wrap(joined, WIDTH, break_on_hyphens=False))
    return "\n".join(out)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
    return "\n".join(lines).replace("gradient*input", "gradient\\*input")


#: Columns of a table of agreement: heading -> (figure, K).
FIGURES: Mapping[str, tuple[str, int | None]] = {
    "P@1": ("precision", 1),
    "P@5": ("precision", 5),
    "R@10": ("recall", 10),
    "Spearman": ("spearman", None),
    "Kendall": ("kendall", None),
    "regret@1": ("relative_regret", 1),
    "regret@5": ("relative_regret", 5),
}


def agreement(outcome: Evaluation, methods: Sequence[str] | None = None, prefix: Sequence[str] = ()) -> list[list[str]]:
    """Rows of a table of agreement, with the columns method and `FIGURES`."""
    names = methods or [row.method for row in outcome.rows]
    return [[*prefix, name, *(_cell(outcome, name, figure, k) for figure, k in FIGURES.values())] for name in names]


def _cell(outcome: Evaluation, method: str, figure: str, k: int | None) -> str:
    summary = outcome.row(method).summary[figure]
    return cell(summary) if k is None else cell(summary, min(k, len(outcome.ks)) - 1)
