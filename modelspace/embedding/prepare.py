"""From the user's request to a model that is ready to be embedded: loaded, on a device, tapped and described.

Only commands that run a model import this module, since it imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from modelspace import sources
from modelspace.attribution.engine import MapRequest, frozen
from modelspace.attribution.memory import is_out_of_memory
from modelspace.embedding.checks import steadier
from modelspace.embedding.embed import pick_device
from modelspace.embedding.half import DTYPES, N_COMPARED, HalfTap, in_bf16
from modelspace.embedding.limits import PATIENCE, time_limit
from modelspace.embedding.process_state import compute_exactly, process_state_kept
from modelspace.encoder import layers as encoder_layers
from modelspace.encoder.inputs import fed
from modelspace.encoder.layers import Candidate, LayerRow, Survey, Tap, executed_layers, find_encoder_output
from modelspace.encoder.precision import in_precision
from modelspace.errors import EmbeddingError, UsageError
from modelspace.names import check_name
from modelspace.probes.preprocess import to_input
from modelspace.sources.base import flags_of
from modelspace.timing import phase
from modelspace.types import ModelCard, Preprocessing

if TYPE_CHECKING:
    from modelspace.sources.base import LoadedModel, PreprocessingFlags


@dataclass(frozen=True)
class Request:
    """The user's description of a model; all fields except `model` are optional.

    Attributes:
        model: a URI, or a live module.
        name: in the registry; default: the name that the source suggests.
        weights: weights file to load into the module.
        weights_key: which of the state dicts in that file to load.
        layer: the layer to tap, as the user wrote it.
        preprocessing: for a live module, its preprocessing; for a URI, flags that override those of the source.
        task, data, tags: metadata, which overrides that of the source.
        device: see `modelspace.embedding.embed.pick_device`; "auto" leaves a live module where it is.
        trust_code: SHA-256 of the one file whose code may run (`modelspace.sources.file`).
        float32: run the model in float32, even if it computes in half precision internally.
        stochastic: number of passes to average, for a model whose forward pass is random.
        dtype: "bf16": run it in bfloat16 if that keeps its maps (`modelspace.embedding.half`); else "float32".
        max_seconds: largest estimate, after the first batch, of the time that the pass takes; what takes `PATIENCE`
            longer is stopped.
    """

    model: str | nn.Module
    name: str | None = None
    weights: str | None = None
    layer: str | None = None
    preprocessing: Preprocessing | PreprocessingFlags | Mapping[str, object] | None = None
    task: str | None = None
    data: str | None = None
    tags: Mapping[str, str] | None = None
    device: str = "auto"
    trust_code: str | None = None
    float32: bool = False
    stochastic: int | None = None
    weights_key: str | None = None
    max_seconds: float | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self._check_dtype()
        if self.max_seconds is not None:
            object.__setattr__(self, "max_seconds", _positive(self.max_seconds))
        if self.stochastic is None:
            return
        # In a CSV manifest all values are strings.
        number = int(self.stochastic) if str(self.stochastic).isdecimal() else 0
        if number < 2:
            raise UsageError(f"{self.stochastic} random passes can't be averaged", "example: `stochastic=8`")
        object.__setattr__(self, "stochastic", number)

    def _check_dtype(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"{self.dtype!r} is not a number type", f"known: {', '.join(DTYPES)}")
        if self.dtype == "float32":
            return
        if self.float32:
            raise UsageError("a model can't run in float32 and in bf16", "leave `float32=` out, or `dtype=`")
        if self.stochastic is not None:
            raise UsageError("a random pass can't be compared in float32 and in bf16", "leave `dtype=` out")

    @property
    def n_images(self) -> int:
        """The number of first images that `prepared` looks at."""
        return 2 if self.dtype == "float32" else N_COMPARED

    @property
    def options(self) -> dict[str, Any]:
        """Options that change how the model is run; see `modelspace.types.ModelCard`."""
        return {
            **({"float32": True} if self.float32 else {}),
            **({"stochastic": self.stochastic} if self.stochastic is not None else {}),
            **({"dtype": self.dtype} if self.dtype != "float32" else {}),
        }


def _positive(seconds: float | str) -> float:
    """A number of seconds, which is a string in a CSV manifest."""
    with suppress(ValueError):
        if math.isfinite(float(seconds)) and float(seconds) > 0:
            return float(seconds)
    raise UsageError(f"a pass can't take {seconds} seconds", "example: `max_seconds=600`")


@dataclass(frozen=True)
class Prepared:
    """A model on its device, frozen, with its tap. `card.seconds` and `card.output_shape` are not known yet.

    `notes` are for the user, on what was loaded, and `max_seconds` is as in `Request`.
    """

    tap: Tap
    card: ModelCard
    device: torch.device
    notes: tuple[str, ...] = ()
    max_seconds: float | None = None


def load(request: Request) -> LoadedModel:
    """Load the module and its metadata."""
    if isinstance(request.model, str):
        flags = request.preprocessing
        if isinstance(flags, Preprocessing | Mapping):
            flags = flags_of(flags)
        return sources.load(
            request.model,
            weights=request.weights,
            weights_key=request.weights_key,
            preprocessing=flags,
            trusted=request.trust_code,
        )
    if request.weights is not None:
        raise UsageError(
            "`weights=` is for the address of a model, and a module in memory has weights",
            "load them into it, or give the address of a function that builds it: python:path/to/file.py:factory",
        )
    stated = request.preprocessing
    return sources.from_module(request.model, preprocessing=stated)


@contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Move the module to the device, and back afterwards; a module on several devices is not moved."""
    tensors = [*module.parameters(), *module.buffers()]
    before = {tensor.device for tensor in tensors}
    if len(before) != 1 or before == {device}:
        yield module
        return
    try:
        yield module.to(device)
    finally:
        module.to(before.pop())


def _device(request: Request, module: nn.Module) -> torch.device:
    if isinstance(request.model, nn.Module) and request.device == "auto":
        placed = (each for each in (*module.parameters(), *module.buffers()) if each.device.type != "meta")
        first = next(placed, None)
        return first.device if first is not None else torch.device("cpu")
    return pick_device(request.device)


@contextmanager
def _ready(request: Request, images: np.ndarray) -> Iterator[tuple[LoadedModel, nn.Module, torch.Tensor, torch.device]]:
    limit = None if request.max_seconds is None else request.max_seconds + PATIENCE
    with process_state_kept(), _memory_named():
        compute_exactly()
        with phase("load"), time_limit(limit, "loading the model"):
            loaded = load(request)
        device = _device(request, loaded.module)
        full = in_precision(loaded.module, torch.float32) if request.float32 else nullcontext()
        kept = frozen(loaded.module, copied=isinstance(request.model, nn.Module))
        with (
            on_device(loaded.module, device) as module,
            full,
            kept,
            fed(module, loaded.preprocessing.inputs),
            time_limit(limit, "the pass"),
        ):
            yield loaded, module, to_input(images[:2], loaded.preprocessing, device), device


@contextmanager
def _memory_named() -> Iterator[None]:
    """Turn running out of memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EmbeddingError(
            "memory ran out while the model was loaded or run",
            "free memory, use another `device=`, or a smaller `preprocessing={'input_size': 224}`",
        ) from error


@contextmanager
def prepared(
    request: Request, images: np.ndarray, requests: Sequence[MapRequest] = (MapRequest.of("gradient_x_input"),)
) -> Iterator[Prepared]:
    """Load, move, freeze and tap a model; a live module is restored afterwards.

    Args:
        request: see `Request`.
        images: at least two probe images, (n, side, side, 3) uint8, to see which layers are executed; `n_images` of the
            request, where there are as many.
        requests: the maps that bf16 must keep.

    Raises:
        ModelspaceError: the model can't be loaded, its preprocessing is not known, the layer does not exist, or the
            model fails on an image of its input size.
    """
    with _ready(request, images) as (loaded, module, example, device):
        with phase("layer"):
            tap = _stated(request, loaded, find_encoder_output(module, example, request.layer or loaded.layer))
            tap, notes = _settled(request, loaded, tap, example)
        options = request.options
        if request.dtype == "bf16":
            with phase("checks"):
                tap, note = in_bf16(tap, to_input(images[:N_COMPARED], loaded.preprocessing, device), requests)
            options = options if isinstance(tap, HalfTap) else {}
            notes += (note,)
        card = ModelCard(
            name=check_name(request.name or loaded.suggested_name),
            uri=loaded.uri,
            weights_sha256=loaded.weights_sha256,
            layer=tap.layer,
            layer_found_by=tap.found_by,
            output_shape=(),
            preprocessing=loaded.preprocessing,
            parameters=loaded.parameters,
            architecture=loaded.architecture,
            task=request.task if request.task is not None else loaded.task,
            data=request.data if request.data is not None else loaded.data,
            tags={**loaded.tags, **(request.tags or {})},
            code_sha256=loaded.code_sha256,
            torch=str(torch.__version__),
            options=options,
        )
        yield Prepared(tap, card, device, (*loaded.notes, *notes), request.max_seconds)


def layers(request: Request, images: np.ndarray) -> tuple[list[LayerRow], Tap]:
    """The executed layers of a model, and the tap that would be used."""
    with _ready(request, images) as (loaded, module, example, _):
        return executed_layers(module, example), find_encoder_output(module, example, request.layer or loaded.layer)


def survey(request: Request, images: np.ndarray) -> Survey:
    """List the modules that a forward pass runs through and what can be explained (`modelspace.encoder.layers.Survey`).

    Its tap is the one that `prepared` uses.

    Args:
        request: see `Request`.
        images: as for `prepared`.

    Raises:
        ModelspaceError: the model can't be loaded, or its preprocessing is not known. A forward pass that fails, and a
            layer that does not exist, are part of the result.
    """
    with _ready(request, images) as (loaded, module, example, _):
        result = encoder_layers.survey(module, example, request.layer or loaded.layer)
        if result.tap is None:
            return result
        tap, _ = _settled(request, loaded, _stated(request, loaded, result.tap), example)
        candidates = result.candidates
        if tap.layer != result.tap.layer:
            others = (each for each in candidates if each.layer != tap.layer)
            candidates = (Candidate(tap.layer, tap.found_by), *others)
        return replace(result, tap=tap, candidates=candidates)


def _stated(request: Request, loaded: LoadedModel, tap: Tap) -> Tap:
    """The tap, with a note if its layer was named by the model's source and not by the user."""
    if request.layer or not loaded.layer:
        return tap
    return replace(tap, found_by=f"stated by {loaded.uri.partition(':')[0]}")


def _settled(request: Request, loaded: LoadedModel, tap: Tap, example: torch.Tensor) -> tuple[Tap, tuple[str, ...]]:
    """The tap, or an earlier one if its layer was chosen automatically and its maps would be noise; and notes."""
    named = (request.layer or loaded.layer or "auto") != "auto"
    return (tap, ()) if named or request.stochastic else steadier(tap, example)
