"""Options shared by several commands, with their help texts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion
from modelspace.cli.formats import Format
from modelspace.errors import UsageError

Home = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        show_default=False,
        help="Folder of the registry. Default: MODELSPACE_HOME, else the current folder if it holds registry.duckdb, "
        "else the nearest parent that does.",
    ),
]
NewHome = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        show_default=False,
        help="Folder for the registry. Default: MODELSPACE_HOME, else the current folder.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only data and errors: no progress, notes or hints.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also print the time of each phase.")]
FormatOption = Annotated[Format, typer.Option("--format", metavar="table|json|csv", help="Format of standard output.")]
Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="SPACE",
        show_default=False,
        autocompletion=completion.spaces,
        help="Space to compare in. Default: the registry's default space.",
    ),
]
Index = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="ADDRESS",
        show_default=False,
        help="Where the vectors are searched: local, milvus:FILE.db or milvus://HOST:PORT. Default: MODELSPACE_INDEX, "
        "else local.",
    ),
]
TaskName = Annotated[str, typer.Argument(metavar="TASK", autocompletion=completion.tasks, help="Name of the task.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL",
        show_default=False,
        help="Only models that match this SQL condition on the columns of the table models and on tags, for example "
        "\"task = 'curvature'\".",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.models, help="Name of the model.")]

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME...]", show_default=False, autocompletion=completion.models, help="Names of the models."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]

Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", show_default=False, help="Weights to load: safetensors or a state dict."),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        "--weights-key",
        metavar="KEY",
        show_default=False,
        help="Which of the state dicts in FILE is meant, for example state_dict_ema; keys with dots between them. "
        "Default: the only one that fits.",
    ),
]
TrustCode = Annotated[
    str | None,
    typer.Option(
        "--trust-code",
        metavar="SHA256",
        show_default=False,
        help="For file: addresses: SHA-256 of the file whose code may run. Without it the file is refused and its "
        "SHA-256 is shown.",
    ),
]
Float32 = Annotated[
    bool,
    typer.Option("--float32", help="Run the model in float32, including its half-precision parts."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|bf16",
        show_default="float32",
        help="bf16: run the model in bfloat16, faster on GPUs, if its maps on the first images stay those of float32 "
        "(cosine 0.999).",
    ),
]
Stochastic = Annotated[
    int | None,
    typer.Option(
        "--stochastic",
        metavar="N",
        show_default=False,
        help="For a model with a random forward pass: average N passes, at N times the cost.",
    ),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        "--max-seconds",
        metavar="S",
        show_default=False,
        help="Stop after the first batch if the whole pass is expected to take longer, and code that does not end.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="LAYER",
        show_default=False,
        help="Layer to explain: a module's name or a pattern, NAME:in for its input, 'output' for the model's output. "
        "Default: found automatically; 'modelspace layers URI' shows which.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to run the model; cuda:1 works too.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", metavar="B", show_default=False, help="Probe images per pass. Default: 16; more on a CUDA card."
    ),
]


Task = Annotated[
    str | None, typer.Option("--task", metavar="T", show_default=False, help="What the model was trained to do.")
]
Data = Annotated[str | None, typer.Option("--data", metavar="D", show_default=False, help="What it was trained on.")]
Tag = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="K=V", show_default=False, help="Any other metadata; may be given several times."),
]
PerSubfolder = Annotated[
    int | None,
    typer.Option(
        "--per-subfolder", metavar="N", show_default=False, help="Take this number of images from each subfolder."
    ),
]
Hubs = Annotated[
    str | None,
    typer.Option(
        "--hubs",
        metavar="HOW",
        show_default=False,
        help="Correct for hubs, models that are near to most others: none, centred, csls or mutual; where affinity "
        "ranks, as with --space paper. Default: the space's own.",
    ),
]
Rerank = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="HOW",
        show_default=False,
        help="Rank candidates by how well their features predict the target's: of whole images (directed), place by "
        "place (local), or both (combined); or by a similarity of kernels: jaccard, mutual_knn, ranksim, "
        "second_order, cknna, debiased_cka, distance_correlation or procrustes; or none. Default: the space's own.",
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None, so that defaults are defined in one place, the library."""
    return {name: value for name, value in options.items() if value is not None}


def pairs(
    words: list[str] | None, form: str = "KEY=VALUE", example: str = "licence=mit", what: str = "tag"
) -> dict[str, str]:
    """["licence=mit"] as a dictionary.

    Args:
        words: of the command line, or None.
        form: how each is written, for messages.
        example: one of them, for messages.
        what: what they are, for messages.

    >>> pairs(["licence=mit", "note=a=b"])
    {'licence': 'mit', 'note': 'a=b'}
    """
    tags = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"the {what} {word!r} is not of the form {form}", f"example: {example}")
        if key in tags:
            raise UsageError(f"the {what} {key!r} is given twice")
        tags[key] = value
    return tags
