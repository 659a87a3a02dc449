"""Attribution maps for a batch: one forward, one backward for saliency and gradient*input, one more for ε-LRP.

T is what a tap (`modelspace.encoder.layers.Tap`, or any callable) returns for a batch. The explained scalar of each
image is the sum of its part of T, or another of `modelspace.types.SCALARS`; each scalar needs its own backward passes,
all of them over one forward pass. Images of a batch must not influence each other: `check_target` checks that once per
model, and that ΣT is not constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from modelspace.attribution import ATTENTION_LRP, LRP, METHODS, Value, method_parameters
from modelspace.attribution.graph import Graph, Node, align_batch_norm, kinds_below
from modelspace.attribution.memory import is_out_of_memory
from modelspace.attribution.rules import Hook, NoRule, Settings, opaque_hint, plan, refusal
from modelspace.attribution.state import frozen, is_frozen
from modelspace.attribution.views import VisibleInPlace
from modelspace.errors import EmbeddingError, ModelspaceError, NoGradientError, NoisyTargetError, UsageError

__all__ = ["Attribution", "attribute", "check_target", "frozen"]

Tap = Callable[[Tensor], Tensor]

#: ΣT counts as constant if its gradient is below this many rounding units of the gradient of a sum with random signs.
#: In 15 timm architectures a constant ΣT had up to 3 units of noise, a usable gradient 7 million or more (float32).
_CONSTANT_ROUNDINGS = 1000.0

#: What the code of a model may raise: it may also try to end the program, or a generator.
CODE_FAILURES = (Exception, SystemExit, GeneratorExit)

#: Names, in messages, of what is checked besides the maps.
_OUTPUT = "the encoder output"
_GRADIENT = "the gradient of the encoder output"

#: Share of an image's gradient that may fall on another image: rounding, not a dependence.
_INDEPENDENT = 1e-5


@dataclass(frozen=True)
class Attribution:
    """The result of `attribute`.

    Attributes:
        maps: method -> (B, C, H, W), in the input space, with the input's type and device.
        output: T, (B, ...), detached.
    """

    maps: dict[str, Tensor]
    output: Tensor


def attribute(
    tap: Tap,
    x: Tensor,
    methods: Sequence[str],
    parameters: Mapping[str, Mapping[str, Value]] | None = None,
) -> Attribution:
    """Attribution maps of the batch `x` by each of `methods`.

    With g = ∂ΣT/∂x: saliency is |g|, gradient_x_input is x · g, epsilon_lrp and attn_lrp are x · g̃, where g̃ is the
    gradient under the rules of `modelspace.attribution.rules`. The other methods are Captum's.

    Args:
        tap: batch -> T of shape (B, ...). A tap that is a module, or has one as `module`, is frozen for the call unless
            it already is (`frozen`), at the cost of a copy of the module's buffers.
        x: (B, C, H, W) float32 or float64, preprocessed; not changed.
        methods: names in `METHODS`, each once.
        parameters: method -> its parameters where they differ from the defaults.

    Raises:
        NotFoundError, UsageError: no such method or parameter.
        EmbeddingError: the forward pass fails; T is not a float tensor with one part per image, or does not depend on
            x; a value is not finite, or a map is zero everywhere, for some images (named); ε-LRP has no rule for a node
            (named).
    """
    values = {method: method_parameters(method, (parameters or {}).get(method)) for method in methods}
    if unused := set(parameters or {}) - set(values):
        raise UsageError(f"parameters for {', '.join(sorted(unused))}, which is not among the methods")
    if not values:
        raise UsageError("no attribution method given", f"methods: {', '.join(METHODS)}")
    requests = {method: MapRequest.of(method, value) for method, value in values.items()}
    maps, output = explain(tap, x, tuple(requests.values()))
    return Attribution({method: maps[request] for method, request in requests.items()}, output)


@dataclass(frozen=True)
class MapRequest:
    """One kind of map.

    Attributes:
        method: name in `METHODS`.
        parameters: all parameters of the method, sorted by name.
        scalar: one of `modelspace.types.SCALARS`.
        images: for the centred energy, the number of probe images that T is averaged over; else 0.
    """

    method: str
    parameters: tuple[tuple[str, Value], ...] = ()
    scalar: str = "sum"
    images: int = 0

    @classmethod
    def of(
        cls, method: str, parameters: Mapping[str, Value] | None = None, scalar: str = "sum", images: int = 0
    ) -> MapRequest:
        """A request in which the other parameters have their defaults.

        Raises:
            NotFoundError, UsageError: no such method or parameter, or a scalar that the method can't explain.
        """
        info = METHODS[method]
        if (info.captum or not info.of_scalar) and scalar != "sum":
            what = "sum of the encoder output only" if info.of_scalar else "whole encoder output"
            raise UsageError(f"{method} explains the {what}", "leave `scalar=` out")
        values = method_parameters(method, parameters)
        return cls(method, tuple(sorted(values.items())), scalar, images if scalar == "centred_energy" else 0)

    @property
    def of_sum(self) -> bool:
        """Whether the map explains ΣT, which must then not be constant."""
        return self.scalar == "sum" and METHODS[self.method].of_scalar


def explain(
    tap: Tap, x: Tensor, requests: Sequence[MapRequest], centres: Mapping[int, Tensor] | None = None
) -> tuple[dict[MapRequest, Tensor], Tensor]:
    """Maps of several kinds from one forward pass, and T; raises the errors of `attribute`.

    Args:
        tap: as for `attribute`.
        x: as for `attribute`.
        requests: the kinds of maps, each once; if empty, T alone is computed, without a backward pass.
        centres: for the centred energy: number of images -> the mean of T (`mean_output`).

    Returns:
        Request -> (B, C, H, W), and T (B, ...), detached.
    """
    with ready(tap, x) as source:
        on_graph = [request for request in requests if not METHODS[request.method].captum]
        output = encoder_output(tap, source, bool(on_graph))
        checked = {_OUTPUT: output.detach()}
        maps: dict[MapRequest, Tensor] = {}
        if on_graph:
            maps, gradients = _graph_maps(tap, source, output, on_graph, centres or {})
            checked |= gradients
        output = output.detach()
        labelled = {_label(request): values for request, values in maps.items() if request.method != "saliency"}
        _refuse(checked | labelled)
        captum = [request for request in requests if METHODS[request.method].captum]
        if captum:
            captum_maps = _captum_maps(tap, source.detach(), captum)
            _refuse({_label(request): values for request, values in captum_maps.items()})
            maps |= captum_maps
    return {request: maps[request] for request in requests}, output


Run = Callable[[Callable[[Tensor, int], Tensor], Tensor], list[Tensor]]


def _at_once(function: Callable[[Tensor, int], Tensor], x: Tensor) -> list[Tensor]:
    return [function(x, 0)]


def mean_output(tap: Tap, batches: Iterable[Tensor], run: Run = _at_once) -> Tensor:
    """Mean of T over images, and also over positions if T is (B, C, H, W): the centred energy subtracts it.

    Costs a forward pass per batch.

    Args:
        tap: as for `attribute`.
        batches: of all images.
        run: runs a function of (part of the batch, index of its first image) on a batch, in parts if need be.

    Returns:
        (1, C, 1, 1) or (1, ...), on the device of T.
    """
    total: Tensor | None = None
    n_images = 0
    for x in batches:
        for summed in run(lambda part, _: _summed_output(tap, part), x):
            total = summed if total is None else total + summed
        n_images += len(x)
    assert total is not None
    return total / n_images


def _summed_output(tap: Tap, x: Tensor) -> Tensor:
    """What `mean_output` averages, summed over the images of one batch, (1, C, 1, 1) or (1, ...)."""
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=False).detach()
    output = output.mean(dim=(2, 3), keepdim=True) if output.dim() == 4 else output
    return output.double().sum(dim=0, keepdim=True) if output.device.type != "mps" else output.sum(0, keepdim=True)


def _seed(output: Tensor, request: MapRequest, centres: Mapping[int, Tensor]) -> Tensor:
    """What the backward pass starts from: the derivative of the explained scalar with respect to T."""
    if request.scalar == "sum":
        return torch.ones_like(output)
    if request.scalar == "energy":
        return output.detach()
    return output.detach() - centres[request.images].to(output)


def _label(request: MapRequest) -> str:
    return request.method if request.scalar == "sum" else f"{request.method} of the {request.scalar.replace('_', ' ')}"


def check_target(tap: Tap, x: Tensor, constant: bool = True) -> Tensor:
    """Check, once per model and with two images, that ΣT is worth explaining.

    Costs one forward and two backward passes. The gradient of ΣT is compared with that of a sum of T's elements with
    random signs, for the first image. After a layer norm with uniform weights ΣT is the same for every input, and its
    gradient is rounding noise.

    Args:
        tap: as for `attribute`.
        x: two images, as for `attribute`.
        constant: whether a constant ΣT is refused; it does no harm if only the energy is explained.

    Returns:
        The gradient of ΣT, of the shape of `x`.

    Raises:
        EmbeddingError: as `attribute`; also if ΣT is constant, or too coarse to tell, in half precision; or an image
            influences the T of another.
    """
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=True)
        _check_output(output.detach(), constant)
        graph = Graph(output.grad_fn, source)
        gradient = _backward(output, source, torch.ones_like(output), graph, keep=True)
        signs = torch.zeros_like(output)
        random = torch.randint(0, 2, output.shape[1:], generator=torch.Generator().manual_seed(0))
        signs[0] = (random * 2 - 1).to(signs)
        reference = _backward(output, source, signs, graph, keep=False)
    judge_target(output.detach(), gradient, reference, constant)
    return gradient.detach()


def _check_output(output: Tensor, constant: bool) -> None:
    """Refuse a T that is in half precision, if ΣT must not be constant, or not finite."""
    if constant and output.dtype in (torch.float16, torch.bfloat16):
        raise EmbeddingError(
            f"the encoder output is computed in {_type_name(output)}, which ruins attribution maps",
            "run the model in float32, with model.float() and without autocast, or with `float32=True`",
        )
    _refuse({_OUTPUT: output})


def judge_target(output: Tensor, gradient: Tensor, reference: Tensor, constant: bool = True) -> None:
    """What `check_target` refuses, where the gradients are known already.

    Args:
        output: T of two images, detached.
        gradient: of ΣT, of the shape of the images.
        reference: of the sum, with random signs, of the elements of the first image's T; of the same shape.
        constant: as for `check_target`.

    Raises:
        EmbeddingError: as `check_target`.
    """
    _check_output(output, constant)
    # Zero only if T itself is constant; a zero gradient of ΣT alone means a constant ΣT.
    _refuse({_GRADIENT: reference[:1]})
    norm, reference_norm = float(gradient[0].norm()), float(reference[0].norm())
    leaked = float(reference[1:].norm()) if len(reference) > 1 else 0.0
    if leaked > _INDEPENDENT * reference_norm:
        raise _dependent()
    if constant and norm < _CONSTANT_ROUNDINGS * torch.finfo(output.dtype).eps * reference_norm:
        raise NoisyTargetError(
            f"the sum of the encoder output is constant: its gradient is {norm / reference_norm:.1e} times that of its "
            "elements",
            "the layer ends in a normalisation; choose the tensor before it with `layer=`, for example NAME:in",
        )


def _dependent() -> EmbeddingError:
    return EmbeddingError(
        "the encoder output of one image depends on the other images of its batch",
        "attribution needs a model that treats images independently, as in eval mode; or choose a `layer=` before that",
    )


# --- the passes


@contextmanager
def ready(tap: Tap, x: Tensor) -> Iterator[Tensor]:
    """`x` as a leaf that records gradients, whatever torch modes are active, with the tap's module frozen."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64) or x.dim() < 2 or len(x) == 0:
        description = f"{tuple(x.shape)} {_type_name(x)}" if isinstance(x, Tensor) else type(x).__name__
        raise EmbeddingError(
            f"the input is {description}, not a batch of float32 or float64 images",
            "half precision ruins attribution maps; use model.float()",
        )
    with ExitStack() as stack:
        module = _module(tap)
        if module is not None and not is_frozen(module):
            stack.enter_context(frozen(module))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.is_autocast_enabled(x.device.type):
            stack.enter_context(torch.autocast(x.device.type, enabled=False))
        # A tensor made in inference mode records no gradient; its clone does.
        yield (x.clone() if x.is_inference() else x).detach().requires_grad_(True)


def as_exception(error: BaseException) -> Exception:
    """What model code raised, as an exception that ends no program."""
    return error if isinstance(error, Exception) else RuntimeError(f"it raises {type(error).__name__}")


@contextmanager
def explained(x: Tensor) -> Iterator[None]:
    """Turn an error in a model's forward pass on `x` into an EmbeddingError of one sentence, unless memory ran out."""
    try:
        yield
    except ModelspaceError:
        raise
    except CODE_FAILURES as error:
        if is_out_of_memory(error):
            raise
        raise EmbeddingError(
            f"the forward pass fails on an input of {tuple(x.shape)} {_type_name(x)}: {_first_line(error)}",
            "check the input size, channels and layout; values 0..255 come as floats, since bytes have no gradient",
        ) from error


def _module(tap: Tap) -> nn.Module | None:
    """The model behind a tap: its `module`, or the tap itself."""
    module = tap if isinstance(tap, nn.Module) else getattr(tap, "module", None)
    return module if isinstance(module, nn.Module) else None


def encoder_output(tap: Tap, source: Tensor, graphical: bool) -> Tensor:
    """T, checked. source: (B, ...); graphical: whether a backward pass will follow."""
    with explained(source), torch.set_grad_enabled(graphical):
        output = tap(source.clone())  # a model may change its input in place
    if not isinstance(output, Tensor):
        raise EmbeddingError(f"the encoder output is a {type(output).__name__}, not a tensor", "choose a `layer=`")
    _check_kind(output)
    if output.numel() == 0:
        raise EmbeddingError(
            f"the encoder output has no elements: its shape is {tuple(output.shape)}", "choose another `layer=`"
        )
    if output.dim() == 0 or len(output) != len(source):
        raise EmbeddingError(
            f"the encoder output has shape {tuple(output.shape)} for {len(source)} images: its first axis is not the "
            "batch",
            "choose a `layer=` whose first axis is the batch",
        )
    if graphical and output.grad_fn is None:
        raise _no_gradient()
    return output


def _check_kind(output: Tensor) -> None:
    """Refuse a T that has no gradient, or is no plain array of numbers."""
    if output.is_nested or output.layout != torch.strided:
        layout = "nested" if output.is_nested else str(output.layout).removeprefix("torch.").replace("_", " ")
        raise EmbeddingError(
            f"the encoder output is a {layout} tensor, and attribution needs a dense one",
            "choose a `layer=` before it, or make it dense in the model's forward pass",
        )
    if output.device.type == "meta":
        raise EmbeddingError(
            "the encoder output has no values: it is on the meta device",
            "choose another `layer=`, before it moves there",
        )
    if not output.is_floating_point():
        raise EmbeddingError(
            f"the encoder output is of type {_type_name(output)}, which has no gradient",
            "choose a `layer=` before the rounding or the argmax",
        )


def _graph_maps(
    tap: Tap, source: Tensor, output: Tensor, requests: Sequence[MapRequest], centres: Mapping[int, Tensor]
) -> tuple[dict[MapRequest, Tensor], dict[str, Tensor]]:
    """The maps computed by backward passes over one graph, and the plain gradients by the name of their scalar.

    Saliency and gradient*input of one scalar share a backward pass; ε-LRP needs one per scalar and parameter set.
    """
    maps: dict[MapRequest, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    x = source.detach()
    graph = Graph(output.grad_fn, source)
    plain: dict[tuple[str, int], list[MapRequest]] = {}
    lrp = [request for request in requests if request.method in LRP]
    whole = [request for request in requests if request.method == "sensitivity"]
    for request in requests:
        if request not in lrp and request not in whole:
            plain.setdefault((request.scalar, request.images), []).append(request)
    lrp_output, lrp_graph = followed(tap, source, output, graph) if lrp else (output, graph)
    hooks = {request: plan(lrp_graph, _settings(request)) for request in lrp}
    on_same = bool(lrp) and lrp_output is output
    for number, request in enumerate(whole, start=1):
        maps[request] = _sensitivity(output, source, graph, request, on_same or bool(plain) or number < len(whole))
    for number, ((scalar, _), group) in enumerate(plain.items(), start=1):
        keep = number < len(plain) or on_same
        gradient = _backward(output, source, _seed(output, group[0], centres), graph, keep)
        gradients[_GRADIENT if scalar == "sum" else f"the gradient of the {scalar.replace('_', ' ')}"] = gradient
        for request in group:
            maps[request] = gradient.abs() if request.method == "saliency" else gradient * x
    for number, request in enumerate(lrp, start=1):
        seed = _seed(lrp_output, request, centres)
        relevance = _backward(lrp_output, source, seed, lrp_graph, keep=number < len(lrp), hooks=hooks[request])
        maps[request] = relevance * x
    return maps, gradients


def _sensitivity(output: Tensor, source: Tensor, graph: Graph, request: MapRequest, keep: bool) -> Tensor:
    """Root mean square of the gradients of projections of T, which are the same for all images and models.

    Its square is, in the mean over random projections, the squared norm of each input value's column in the Jacobian
    of T (Hutchinson 1989): how far T moves with that value, whatever basis T is written in.
    """
    count = int(dict(request.parameters)["projections"])
    weights = torch.randn((count, *output.shape[1:]), generator=torch.Generator().manual_seed(0))
    total = torch.zeros_like(source)
    for number, weight in enumerate(weights.to(output), start=1):
        gradient = _backward(output, source, weight.expand_as(output), graph, keep or number < count)
        # Neither overflows nor underflows, as squares of gradients may.
        total = torch.hypot(total, gradient)
    root: Tensor = (total / count**0.5).detach()
    return root


def _settings(request: MapRequest) -> Settings:
    values = dict(request.parameters)
    through_attention = request.method == ATTENTION_LRP
    return Settings(float(values["epsilon"]), str(values["offset"]), through_attention=through_attention)


def _captum_maps(tap: Tap, x: Tensor, requests: Sequence[MapRequest]) -> dict[MapRequest, Tensor]:
    from modelspace.attribution import captum_methods

    forward = _per_image_sum(tap)
    maps = {}
    for request in requests:
        try:
            maps[request] = captum_methods.function_of(request.method)(forward, x, **dict(request.parameters))
        except ModelspaceError:
            raise
        # The function may be a plug-in's, which can raise anything.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise EmbeddingError(
                f"{request.method} fails: {_first_line(error)}", "gradient_x_input needs no Captum"
            ) from error
        if not isinstance(maps[request], Tensor) or maps[request].shape != x.shape:
            shape = tuple(getattr(maps[request], "shape", ()))
            raise EmbeddingError(f"{request.method} gives maps of shape {shape} for an input of {tuple(x.shape)}")
    return maps


def followed(tap: Tap, source: Tensor, output: Tensor, graph: Graph) -> tuple[Tensor, Graph]:
    """T and its graph with nothing hidden from the rules of ε-LRP.

    A second forward pass is needed only if the graph has in-place changes of a view (`VisibleInPlace`).
    """
    module = _module(tap)
    if module is not None and any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise EmbeddingError(
            "LRP can't follow a scripted or traced model (TorchScript)",
            "load the model's Python source, or use gradient_x_input or saliency",
        )
    if "CopySlices" not in graph.kinds.values():
        return output, graph
    with VisibleInPlace():
        visible = encoder_output(tap, source, graphical=True)
    return visible, Graph(visible.grad_fn, source)


def gradient_of(output: Tensor, source: Tensor, weights: Tensor, keep: bool = False) -> Tensor:
    """∂(weights · output)/∂source.

    Args:
        output: T of `source`.
        source: (B, ...), from `ready`.
        weights: of the shape of `output`.
        keep: whether to keep the graph for another backward pass.

    Raises:
        EmbeddingError: there is no gradient, or the backward pass fails.
    """
    return _backward(output, source, weights, Graph(output.grad_fn, source), keep)


def _backward(
    output: Tensor,
    source: Tensor,
    weights: Tensor,
    graph: Graph,
    keep: bool,
    hooks: Sequence[tuple[Node, Hook]] = (),
) -> Tensor:
    """∂(weights · output)/∂source with `hooks` on the nodes; keep: whether to keep the graph for another pass."""
    gradient = backward(output, [source], weights, graph, keep, hooks)[0]
    assert gradient is not None
    return gradient


def backward(
    output: Tensor,
    sources: Sequence[Tensor],
    weights: Tensor,
    graph: Graph,
    keep: bool,
    hooks: Sequence[tuple[Node, Hook]] = (),
) -> tuple[Tensor | None, ...]:
    """Gradients of weights · output for `sources`; None for a source without influence, but never for the first."""
    handles = align_batch_norm(graph.kinds)
    try:
        handles += [node.register_hook(hook) for node, hook in hooks]
        gradients = torch.autograd.grad(output, sources, weights, retain_graph=keep, allow_unused=True)
    except NoRule as reason:
        raise refusal([str(reason)]) from reason
    except CheckpointError as error:
        raise EmbeddingError(
            "LRP can't look into checkpointed blocks, which are recomputed during the backward pass",
            opaque_hint(["Checkpoint"]) or "",
        ) from error
    except ModelspaceError:
        raise
    except CODE_FAILURES as error:
        if is_out_of_memory(error):
            raise
        opaque = sorted({node.name() for node in graph.inputs if opaque_hint([node.name()]) is not None})
        description = f"opaque node {', '.join(opaque)}" if opaque else _first_line(error)
        hint = opaque_hint(opaque) or "choose another `layer=`, or fix the model's forward pass"
        raise EmbeddingError(f"the backward pass fails: {description}", hint) from error
    finally:
        for handle in handles:
            handle.remove()
    if gradients[0] is None:
        raise _no_gradient()
    return gradients


def _no_gradient() -> NoGradientError:
    return NoGradientError(
        "the encoder output has no gradient with respect to the input",
        "choose a `layer=` before the model detaches it",
    )


def _per_image_sum(tap: Tap) -> Callable[[Tensor], Tensor]:
    """Batch -> ΣT of each image, (B,): the scalar forward function that Captum needs."""

    def forward(x: Tensor) -> Tensor:
        output = encoder_output(tap, x, graphical=torch.is_grad_enabled())
        if output.grad_fn is not None:
            align_batch_norm(kinds_below(output.grad_fn))  # the hooks are freed with the graph
        return output.flatten(1).sum(1) if output.dim() > 1 else output

    return forward


# --- what is refused


def _refuse(tensors: Mapping[str, Tensor]) -> None:
    """Raise an EmbeddingError if a tensor (B, ...) is not finite, or zero, for some images; name the images."""
    if not tensors:
        return
    # The Euclidean norm costs the fewest passes, with one transfer from the device for all tensors. Its squares may
    # overflow or underflow where the values do not, so the largest absolute value decides.
    norms = [torch.linalg.vector_norm(_rows(tensor), dim=1).to(torch.float32) for tensor in tensors.values()]
    if all(0.0 < norm < float("inf") for norm in torch.cat(norms).tolist()):
        return
    table = [_rows(tensor).abs().amax(1).tolist() for tensor in tensors.values()]
    for name, row in zip(tensors, table, strict=True):
        if broken := [k for k, value in enumerate(row) if not value < float("inf")]:
            raise EmbeddingError(
                f"{name} is not finite for {_images(broken, len(row))}",
                "check the weights and the preprocessing (mean, std, value range) of the model",
            )
    for name, row in zip(tensors, table, strict=True):
        if name != _OUTPUT and (zero := [k for k, value in enumerate(row) if value == 0.0]):
            raise NoGradientError(
                f"{name} is zero everywhere for {_images(zero, len(row))}",
                "no unit of the layer responds to the input; choose another `layer=` or check the preprocessing",
            )


def _rows(values: Tensor) -> Tensor:
    """(B, ...) -> (B, n)."""
    return values.detach().reshape(len(values), -1)


def _images(indices: list[int], n: int) -> str:
    if len(indices) == n and n > 1:
        return f"all {n} images of the batch"
    shown = ", ".join(str(k) for k in indices[:8]) + (" ..." if len(indices) > 8 else "")
    return f"image{'s' if len(indices) > 1 else ''} {shown} of the batch (counted from 0)"


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first_line(error: BaseException) -> str:
    lines = str(as_exception(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
