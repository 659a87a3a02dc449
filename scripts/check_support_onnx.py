"""Check which exported models can be registered: export architectures of timm and torchvision, load and explain them.

    python scripts/check_support_onnx.py [--format onnx|onnx-dynamo|pt2|torchscript] [NAME ...]
    python scripts/check_support_onnx.py --page

Prints a table in Markdown; --page writes docs/lab-book/support_exports.md with the tables of `PAGE`. For each
architecture, with random weights: whether the file loads, the tensor that is explained, the largest difference of each
map from that of the model before the export, relative to the map's largest value, the residual of the ε-LRP ledger, and
the seconds to load the file and explain two images. Maps and ledger are computed in float64, so that differences come
from the file (its weights, in float32, folded with batch norm by the exporter) and not from rounding at a ReLU's kink.
If the sum of the default tensor is constant, as after a layer norm with initial weights, the input of the last layer
norm is explained.

Needs timm, torchvision and onnx (with onnxscript for onnx-dynamo). The CPU build of torch lacks two of torchvision's
operators; they are declared first, which is enough to import it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from modelspace import sources
from modelspace.attribution.engine import attribute, check_target, frozen
from modelspace.attribution.ledger import ledger
from modelspace.encoder.layers import Tap, executed_layers, find_encoder_output
from modelspace.errors import ModelspaceError
from modelspace.sources.base import flags_of

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

METHODS = ("saliency", "gradient_x_input", "epsilon_lrp")
SIDE = 64

#: name -> (library, keyword arguments, side of the input)
ARCHITECTURES: dict[str, tuple[str, dict[str, object], int]] = {
    "resnet18": ("torchvision", {}, SIDE),
    "squeezenet1_1": ("torchvision", {}, SIDE),
    "densenet121": ("torchvision", {}, SIDE),
    "mobilenet_v3_small": ("torchvision", {}, SIDE),
    "shufflenet_v2_x0_5": ("torchvision", {}, SIDE),
    "googlenet": ("torchvision", {"aux_logits": False, "init_weights": False}, SIDE),
    "mobilenetv2_050": ("timm", {}, SIDE),
    "efficientnet_lite0": ("timm", {}, SIDE),
    "regnety_002": ("timm", {}, SIDE),
    "convnext_atto": ("timm", {}, SIDE),
    "vit_tiny_patch16_224": ("timm", {"img_size": SIDE}, SIDE),
    "mixer_s32_224": ("timm", {"img_size": SIDE}, SIDE),
    "swin_tiny_patch4_window7_224": ("timm", {"img_size": 56}, 56),
}


@dataclass(frozen=True)
class Row:
    """The results of one exported model."""

    name: str
    loads: str
    layer: str = ""
    differences: tuple[str, ...] = ("", "", "")
    residual: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        """A row of the Markdown table."""
        return " | ".join(
            ["", self.name, self.loads, self.layer, *self.differences, self.residual, f"{self.seconds:.1f}", ""]
        ).strip()


def make(name: str) -> tuple[nn.Module, int]:
    """An architecture with reproducible random weights, in evaluation mode, and its input side."""
    library, options, side = ARCHITECTURES[name]
    torch.manual_seed(0)
    if library == "timm":
        import timm

        model = timm.create_model(name, pretrained=False, **options)
    else:
        import torchvision

        model = torchvision.models.get_model(name, weights=None, **options)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model.eval(), side


def export(model: nn.Module, x: torch.Tensor, format: str, path: Path) -> str:
    """Write the model; returns its address."""
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), quiet[0], quiet[1]:
        warnings.simplefilter("ignore")
        if format.startswith("onnx"):
            torch.onnx.export(model, (x,), str(path), dynamo=format == "onnx-dynamo", opset_version=18)
            return f"onnx:{path}"
        if format == "pt2":
            torch.export.save(torch.export.export(model, (x,)), path)
        else:
            torch.jit.save(torch.jit.trace(model, x), path)
    return f"file:{path}"


def check(name: str, format: str, folder: Path) -> Row:
    """Export, load, explain and compare one architecture."""
    model, side = make(name)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    path = folder / f"{name}.{'onnx' if format.startswith('onnx') else 'pt2' if format == 'pt2' else 'pt'}"
    try:
        uri = export(model, x[:1], format, path)
    except Exception as error:
        return Row(name, f"not exported: {type(error).__name__}")
    started = time.perf_counter()
    flags = flags_of({"input_size": side, "mean": [0.0] * 3, "std": [1.0] * 3})
    trusted = hashlib.sha256(path.read_bytes()).hexdigest() if uri.startswith("file:") else None
    try:
        loaded = sources.load(uri, preprocessing=flags, trusted=trusted)
        tap = tapped(loaded.module, x)
        explain(tap, x)
        seconds = time.perf_counter() - started
        exact = x.double()
        after = explain(tapped(loaded.module.double(), exact), exact)
        before = explain(tapped(model.double(), exact), exact)
    except ModelspaceError as error:
        return Row(name, f"no: {error.message}")
    differences = tuple(
        f"{float((after[m] - before[m]).abs().max() / before[m].abs().max()):.0e}"
        if m in after and m in before
        else "refused"
        for m in METHODS
    )
    try:
        residual = f"{ledger(tap, exact).residual:.0e}"
    except Exception as error:
        residual = type(error).__name__
    return Row(name, "yes", tap.layer, differences, residual, seconds)


def tapped(model: nn.Module, x: torch.Tensor) -> Tap:
    """The default tap, or the input of the last layer norm if the sum of the default is constant."""
    tap = find_encoder_output(model, x)
    try:
        check_target(tap, x)
    except ModelspaceError as error:
        norms = [row.name for row in executed_layers(model, x) if row.kind.startswith("LayerNorm")]
        if "is constant" not in error.message or not norms:
            raise
        tap = find_encoder_output(model, x, f"{norms[-1]}:in")
    return tap


def explain(tap: Tap, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Maps by method, without the methods that are refused."""
    maps = {}
    with frozen(tap.module):
        for method in METHODS:
            with contextlib.suppress(ModelspaceError):
                maps |= attribute(tap, x, [method]).maps
    return maps


#: The formats of the page. The dynamo exporter needs another package, and its files are similar.
PAGE = {"onnx": "ONNX", "pt2": "Exported programs (`torch.export`)", "torchscript": "TorchScript, traced"}

HEAD = """# Exported files tested

```
python scripts/check_support_onnx.py --page
```

wrote this page (part of `make support`). Each network has random weights, is exported, and loaded again through
`onnx:` or `file:`. A number is the largest difference of a map from that of the network before the export, relative to
the map's largest value, in float64; the ledger is that of ε-LRP
([Attribution](../reference/attribution.md#the-ledger)).
"""

COLUMNS = (
    "| architecture | loads | explained | saliency | gradient*input | ε-LRP | ledger | seconds |",
    "|---|---|---|---|---|---|---|---|",
)


def rows(names: Sequence[str], format: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            yield check(name, format, Path(folder)).line()


def page() -> None:
    parts = [HEAD]
    for format, title in PAGE.items():
        lines = []
        for line in rows(tuple(ARCHITECTURES), format):
            print(format, line, flush=True)
            lines.append(line)
        parts.append("\n".join([f"## {title}", "", *COLUMNS, *lines, ""]))
    (ROOT / "docs" / "lab-book" / "support_exports.md").write_text("\n".join(parts), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ARCHITECTURES)}; default: all")
    parser.add_argument("--format", default="onnx", choices=("onnx", "onnx-dynamo", "pt2", "torchscript"))
    parser.add_argument("--page", action="store_true", help="write docs/lab-book/support_exports.md")
    arguments = parser.parse_args()
    import torchvision_ops

    torchvision_ops.declare()
    if arguments.page:
        page()
        return
    print("\n".join(COLUMNS))
    for line in rows(arguments.names or tuple(ARCHITECTURES), arguments.format):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
