"""The command ``modelspace observe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli import completion, options
from modelspace.cli.messages import say, suggest
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError

EXAMPLES = """
modelspace observe flowers resnet50 0.912
modelspace observe flowers resnet50 0.905 --how finetune --n-train 800 --seed 1
modelspace observe flowers vit-large --failed "out of memory"
modelspace observe flowers --from results.csv
"""


def command(
    task: Annotated[
        str | None,
        typer.Argument(metavar="[TASK]", show_default=False, autocompletion=completion.tasks, help="Name of the task."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", show_default=False, autocompletion=completion.models, help="Name of the model."
        ),
    ] = None,
    score: Annotated[
        float | None, typer.Argument(metavar="[SCORE]", show_default=False, help="Its score in the task's metric.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            show_default=False,
            help="CSV file with one outcome per line, of which all are stored or none: columns model and score, and "
            "any of task, how, n_train, seed, seconds, note and measured_at.",
        ),
    ] = None,
    failed: Annotated[
        str | None, typer.Option("--failed", metavar="WHY", show_default=False, help="The model failed, and why.")
    ] = None,
    how: Annotated[
        str | None,
        typer.Option(
            "--how",
            metavar="HOW",
            show_default=False,
            help="How it was measured, for example finetune. Default: observed.",
        ),
    ] = None,
    n_train: Annotated[
        int | None, typer.Option("--n-train", metavar="N", show_default=False, help="Number of training images.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", show_default=False, help="Seed of the training.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", show_default=False, help="Seconds that it took.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", show_default=False, help="Free text.")] = None,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Store what was measured of a model on a task. 'modelspace outcomes' lists it."""
    details: dict[str, Any] = options.given(
        failed=failed, how=how, n_train=n_train, seed=seed, seconds=seconds, note=note
    )
    if file is not None:
        if model is not None or details:
            raise UsageError("--from has the models and their scores", f"modelspace observe {task or ''} --from {file}")
        outcomes = open_space(home).observe_file(Path(file), task)
        say(f"stored {len(outcomes)} outcomes", quiet=quiet)
    else:
        if task is None or model is None:
            raise UsageError("a task and a model are needed", "example: modelspace observe flowers resnet50 0.912")
        if (score is None) == (failed is None):
            raise UsageError(
                "either a score or --failed is needed", f"example: modelspace observe {task} {model} 0.912"
            )
        outcome = open_space(home).observe(task, model, score, **details)
        shown = f"failed: {outcome.note}" if outcome.score is None else f"{outcome.metric} {outcome.score:g}"
        say(f"{outcome.task}, {outcome.model}: {shown}", quiet=quiet)
    suggest(f"modelspace outcomes {task or ''}".strip(), quiet=quiet)
