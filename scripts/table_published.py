"""The page of published accuracies: what each oracle is, and how far no look at any model goes.

    python scripts/table_published.py [--page]

Prints a table in Markdown; --page writes docs/lab-book/published.md.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from modelspace import evaluation
from modelspace.evaluation import Evaluation, published
from modelspace.evaluation.comparison import RANDOM, STATIC, STATIC_BY_SCORE

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lab-book" / "published.md"

HEAD = (
    "oracle",
    "models × data sets",
    "measured pairs",
    "static tau_w",
    "by score",
    "static Spearman",
    "static regret@1",
    "by score",
    "random",
    "best published tau_w",
)

TEXT = """# Published accuracies

<!-- Written by scripts/table_published.py --page. -->

```
modelspace evaluate --oracle sfda-cnn                       # needs no registry
modelspace evaluate --oracle sfda-cnn --matrix scores.csv   # with scores of your method
```

Papers on choosing a pretrained model come with tables: each model's accuracy after fine-tuning on each data set. The
figures are facts, and ship with modelspace as oracles. `scripts/import_published.py` wrote them from the sources.

**A ranking is worth what it adds to the static order.** *Static* ranks the models by their mean rank on the other data
sets; it has never seen the target, nor any model. *Static by score* takes the mean of the accuracies, standardised per
data set. `evaluate` prints both beside every method. On the 11 CNNs every published method is below static, and on
TLL's ten most of those whose scores are known.

{table}

tau_w is weighted Kendall as the literature computes it: hyperbolic weights, averaged over the order by truth and the
order by scores (the default of `scipy.stats.weightedtau`; LogME and SFDA use it). regret@1 is in accuracy points: the
best model's accuracy minus that of the model ranked first. All are means over data sets. The last column is the best
figure in papers, or of scores that come with the table; papers' figures are on the same table and were not recomputed.

{reported}

Static differs little between mean rank and mean score where models are few, and much for the first place where many
are close: on `transfergraph-vtab1k` its regret@1 hangs on a handful of data sets, as the interval that `evaluate`
prints says. There no order of all models is good for every task.

`modelspace outcomes --import published` stores the accuracies of checkpoints that a registry holds as outcomes of
tasks ([Keep what was measured](../how-to/tasks-and-outcomes.md#4-import-what-was-published)).

## Sources

| oracle | what | source | licence stated | unit there |
|---|---|---|---|---|
{sources}

Names with the same figures share one file, and each name keeps its own source.

{notes}

## Rules

- **One row per pair.** No pair occurs twice in a source table, so nothing is averaged, and no best run is picked.
- **Not measured.** 0.0 in NCTI's table for SimCLR on EuroSAT and RESISC45, and -1 in PARC's, are missing values. A
  source that no other data set has is last in the static order.
- **Amounts of training data.** In TransferGraph's VTAB table 4,302 runs used 800 images and the others 80% or all of a
  data set. Only runs with the commonest amount of each data set are kept: 4,865 of 5,216.
- **A model's own data set never counts.** A pair is marked, and ignored by every method, if the source's name says
  that it was trained on the target: `resnet50@DTD` on DTD, `Ahmed9275/Vit-Cifar100` on CIFAR-100, the detector of
  VOC on VOC. The patterns are `OWN` in `scripts/import_published.py`. `--with-self` counts these pairs. It matters:
  on `transfergraph-records` static tau_w is {without:.3f} without the {n_own} marked pairs and {counted:.3f} with them.
  A model that was trained on the target under a name that hides it is not recognised.
- The scores of published methods are compared as they are, higher is better. One column was wrong in its source: TLL's
  NCE on DTD.

What is not here: NCTI's and EMMS's figures beyond these tables, Model Spider's ranks of 42 models on 96 mixed tasks
(which have no accuracies), and Taskonomy's affinities, which are oracles of their own ([Evaluation](evaluation.md)).
"""


def row(table: published.Table) -> str:
    """A line of the table of figures."""
    outcome = evaluation.evaluate({}, evaluation.load(table.name))
    cells = [
        f"`{table.name}`",
        f"{table.models} × {table.targets}",
        f"{table.measurements - table.own:,}",
        f"{mean(outcome, STATIC, 'weighted_kendall'):.3f}",
        f"{mean(outcome, STATIC_BY_SCORE, 'weighted_kendall'):.3f}",
        f"{mean(outcome, STATIC, 'spearman'):.3f}",
        f"{mean(outcome, STATIC, 'regret'):.2f}",
        f"{mean(outcome, STATIC_BY_SCORE, 'regret'):.2f}",
        f"{mean(outcome, RANDOM, 'regret'):.2f}",
        best_published(table, outcome),
    ]
    return "| " + " | ".join(cells) + " |"


def mean(outcome: Evaluation, method: str, figure: str) -> float:
    """A method's mean over targets; of regret the one at K = 1."""
    value = outcome.row(method).summary[figure].mean
    return float(value[0] if figure == "regret" else value)


def best_published(table: published.Table, outcome: Evaluation) -> str:
    """The best figure in papers or of the scores that come along."""
    figures = dict(table.reported)
    figures |= {name: mean(outcome, f"{name} (published)", "weighted_kendall") for name in table.methods}
    if not figures:
        return "not known"
    name = max(figures, key=lambda method: figures[method])
    return f"{name} {figures[name]:.3f}"


def figures_table() -> str:
    """The table of figures, one line per table of the package that is not another one's."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join(lines + [row(table) for table in published.tables().values() if not is_copy(table)])


def is_copy(table: published.Table) -> bool:
    """Whether a table has all figures of another one, and no others."""
    return bool(table.part_of) and not table.without


def item(text: str) -> str:
    """An item of a list, wrapped."""
    return textwrap.fill(f"- {text}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def page() -> str:
    """The text of the page."""
    tables = published.tables().values()
    oracle = evaluation.load("transfergraph-records")
    counted, without = (
        mean(evaluation.evaluate({}, oracle, with_self=with_self), STATIC, "weighted_kendall")
        for with_self in (True, False)
    )
    return TEXT.format(
        table=figures_table(),
        reported="\n".join(
            item(
                f"`{table.name}`, tau_w in papers: "
                + ", ".join(f"{method} {value:.3f}" for method, value in table.reported.items())
            )
            for table in tables
            if table.reported and not table.part_of
        ),
        sources="\n".join(
            f"| `{table.name}` | {table.title} | {table.origin}, commit {table.commit} | {table.licence} | "
            f"{table.unit} |"
            for table in tables
        ),
        notes="\n".join(item(f"`{table.name}`: {table.notes}") for table in tables if table.notes),
        counted=counted,
        without=without,
        n_own=int(oracle.own.sum()) if oracle.own is not None else 0,
    )


def main() -> None:
    """Print the table, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    if parser.parse_args().page:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(figures_table())


if __name__ == "__main__":
    main()
