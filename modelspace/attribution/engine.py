"""Attribution maps for a batch: one forward, one backward for saliency and gradient*input, one more for ε-LRP.

T is what a tap (`modelspace.encoder.layers.Tap`, or any callable) makes of a batch; the explained scalar of each image is the
sum of its part of T, or another of `modelspace.types.SCALARS`, each with backward passes of its own over the one forward.
Images of a batch must not influence each other: `check_target` checks that, and that ΣT is not constant, once per model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from modelspace.attribution import METHODS, Value, method_parameters
from modelspace.attribution.graph import Graph, Node, align_batch_norm, kinds_below
from modelspace.attribution.rules import Hook, NoRule, Settings, opaque_hint, plan, refusal
from modelspace.attribution.state import frozen, is_frozen
from modelspace.attribution.views import VisibleInPlace
from modelspace.errors import EmbeddingError, ModelspaceError, NoisyTargetError, UsageError

__all__ = ["Attribution", "attribute", "check_target", "frozen"]

Tap = Callable[[Tensor], Tensor]

#: ΣT counts as constant where its gradient is below this many roundings of that of a sum with random signs. In 15
#: architectures of timm the noise of a constant ΣT had up to 3 roundings, a usable gradient 7 million or more (float32).
_CONSTANT_ROUNDINGS = 1000.0

#: Names of what is checked besides the maps.
_OUTPUT = "the encoder output"
_GRADIENT = "the gradient of the encoder output"

#: Share of an image's gradient that another image may get: rounding, not a dependence.
_INDEPENDENT = 1e-5

#: Relative difference of T that the size of a batch may make by rounding.
_INDEPENDENT_OUTPUT = 1e-3


@dataclass(frozen=True)
class Attribution:
    """What `attribute` gives.

    Attributes:
        maps: method -> (B, C, H, W), in the input's own space, type and device.
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

    With g = ∂ΣT/∂x: saliency is |g|, gradient_x_input is x · g, epsilon_lrp is x · g̃, where g̃ is the gradient by the
    rules of `modelspace.attribution.rules`. The other methods are Captum's.

    Args:
        tap: batch -> T of shape (B, ...). If it is a module, or has one as `module`, that no `frozen` block holds, one
            is opened here, at the price of a copy of the module's buffers per call.
        x: (B, C, H, W) float32 or float64, preprocessed; not changed.
        methods: names in `METHODS`, each once.
        parameters: method -> its parameters where they differ from the defaults.

    Raises:
        NotFoundError, UsageError: a method or parameter that is not there.
        EmbeddingError: the forward pass fails; T is no float tensor with one part per image, or does not depend on x;
            something is not a number, or zero everywhere, for some images (named); ε-LRP meets a node that it has no
            rule for (named).
    """
    values = {method: method_parameters(method, (parameters or {}).get(method)) for method in methods}
    if unused := set(parameters or {}) - set(values):
        raise UsageError(f"parameters for {', '.join(sorted(unused))}, which is not among the methods")
    if not values:
        raise UsageError("no attribution method given", f"methods: {', '.join(METHODS)}")
    wanted = {method: MapRequest.of(method, value) for method, value in values.items()}
    made, output = explain(tap, x, tuple(wanted.values()))
    return Attribution({method: made[one] for method, one in wanted.items()}, output)


@dataclass(frozen=True)
class MapRequest:
    """One kind of map.

    Attributes:
        method: name in `METHODS`.
        parameters: all of the method's, sorted by name.
        scalar: one of `modelspace.types.SCALARS`.
        images: for the centred energy, over how many probe images T's mean was taken; else 0.
    """

    method: str
    parameters: tuple[tuple[str, Value], ...] = ()
    scalar: str = "sum"
    images: int = 0

    @classmethod
    def of(
        cls, method: str, parameters: Mapping[str, Value] | None = None, scalar: str = "sum", images: int = 0
    ) -> MapRequest:
        """With the parameters that are not given at their defaults.

        Raises:
            NotFoundError, UsageError: a method or parameter that is not there, or a scalar that the method can't explain.
        """
        if METHODS[method].captum and scalar != "sum":
            raise UsageError(f"{method} explains the sum of the encoder output only", "leave `scalar=` out")
        values = method_parameters(method, parameters)
        return cls(method, tuple(sorted(values.items())), scalar, images if scalar == "centred_energy" else 0)


def explain(
    tap: Tap, x: Tensor, wanted: Sequence[MapRequest], centres: Mapping[int, Tensor] | None = None
) -> tuple[dict[MapRequest, Tensor], Tensor]:
    """Maps of several kinds over one forward pass, and T; see `attribute`, whose errors it raises.

    Args:
        wanted: kinds of maps, each once; none: T alone, without a backward pass.
        centres: for the centred energy, by number of images: the mean of T (`mean_output`).

    Returns:
        kind -> (B, C, H, W), and T (B, ...), detached.
    """
    with ready(tap, x) as source:
        graphical = [one for one in wanted if not METHODS[one.method].captum]
        output = encoder_output(tap, source, bool(graphical))
        checked = {_OUTPUT: output.detach()}
        maps: dict[MapRequest, Tensor] = {}
        if graphical:
            maps, gradients = _graph_maps(tap, source, output, graphical, centres or {})
            checked |= gradients
        output = output.detach()
        _refuse(checked | {_label(one): made for one, made in maps.items() if one.method != "saliency"})
        captum = [one for one in wanted if METHODS[one.method].captum]
        if captum:
            computed = _captum_maps(tap, source.detach(), captum)
            _refuse({_label(one): made for one, made in computed.items()})
            maps |= computed
    return {one: maps[one] for one in wanted}, output


def mean_output(tap: Tap, batches: Iterable[Tensor]) -> Tensor:
    """Mean of T over images, and over positions too where T is (B, C, H, W): what the centred energy takes off.

    Costs a forward pass per batch.

    Returns:
        (1, C, 1, 1) or (1, ...), on the device of T.
    """
    total: Tensor | None = None
    n = 0
    for x in batches:
        with ready(tap, x) as source:
            output = encoder_output(tap, source, graphical=False).detach()
        output = output.mean(dim=(2, 3), keepdim=True) if output.dim() == 4 else output
        summed = (
            output.double().sum(dim=0, keepdim=True) if output.device.type != "mps" else output.sum(0, keepdim=True)
        )
        total = summed if total is None else total + summed
        n += len(output)
    assert total is not None
    return total / n


def _seed(output: Tensor, one: MapRequest, centres: Mapping[int, Tensor]) -> Tensor:
    """What the backward pass starts with: the derivative of the explained scalar by T."""
    if one.scalar == "sum":
        return torch.ones_like(output)
    if one.scalar == "energy":
        return output.detach()
    return output.detach() - centres[one.images].to(output)


def _label(one: MapRequest) -> str:
    return one.method if one.scalar == "sum" else f"{one.method} of the {one.scalar.replace('_', ' ')}"


def check_independent(tap: Tap, x: Tensor) -> None:
    """Whether an image's T depends on the other images of its batch; to be called once per model. Three forward passes of
    one or two images, none backward: for spaces of geometry, which need no gradient.

    Raises:
        EmbeddingError: it does, or the forward pass fails.
    """
    with ready(tap, x[:2]) as source:
        together = encoder_output(tap, source, graphical=False)
        alone = torch.cat([encoder_output(tap, source[k : k + 1], graphical=False) for k in range(len(source))])
    _refuse({_OUTPUT: together.detach()})
    # Kernels may be chosen by batch size, so that rounding differs; statistics of a batch differ by far more.
    if float((together - alone).norm()) > _INDEPENDENT_OUTPUT * float(together.norm()):
        raise _dependent()


def check_target(tap: Tap, x: Tensor, constant: bool = True) -> None:
    """Whether ΣT is worth explaining; to be called once per model, with two images. Costs one forward, two backwards.

    The gradient of ΣT is compared with that of a sum of T's elements with random signs, for the first image. After a
    layer norm with a uniform weight ΣT is the same for every input, and its gradient is rounding noise.

    Args:
        constant: whether a constant ΣT is refused; it does no harm where only the energy is explained.

    Raises:
        EmbeddingError: as `attribute`; also where ΣT is constant, or too coarse to tell, in half precision; or an image
            influences another one's T.
    """
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=True)
        if constant and output.dtype in (torch.float16, torch.bfloat16):
            raise EmbeddingError(
                f"the encoder output is computed in {_type_name(output)}, which ruins attribution maps",
                "run the model in float32, with model.float() and without autocast, or with `float32=True`",
            )
        _refuse({_OUTPUT: output.detach()})
        graph = Graph(output.grad_fn, source)
        gradient = _backward(output, source, torch.ones_like(output), graph, keep=True)
        signs = torch.zeros_like(output)
        random = torch.randint(0, 2, output.shape[1:], generator=torch.Generator().manual_seed(0))
        signs[0] = (random * 2 - 1).to(signs)
        reference = _backward(output, source, signs, graph, keep=False)
    _refuse({_GRADIENT: reference[:1]})  # zero only where T itself does not move; else a zero gradient means constant
    size, own = float(gradient[0].norm()), float(reference[0].norm())
    rest = float(reference[1:].norm()) if len(x) > 1 else 0.0
    if rest > _INDEPENDENT * own:
        raise _dependent()
    if constant and size < _CONSTANT_ROUNDINGS * torch.finfo(output.dtype).eps * own:
        raise NoisyTargetError(
            f"the sum of the encoder output is constant: its gradient is {size / own:.1e} of that of its elements",
            "the layer ends in a normalisation; choose the tensor before it with `layer=`, for example NAME:in",
        )


def _dependent() -> EmbeddingError:
    return EmbeddingError(
        "the encoder output of one image depends on the other images of its batch",
        "attribution needs a model that treats images one by one, as in eval mode; or choose a `layer=` before that",
    )


# --- the passes


@contextmanager
def ready(tap: Tap, x: Tensor) -> Iterator[Tensor]:
    """`x` as a leaf that records gradients, whatever modes the caller is in, with the tap's module frozen."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64) or x.dim() < 2 or len(x) == 0:
        given = f"{tuple(x.shape)} {_type_name(x)}" if isinstance(x, Tensor) else type(x).__name__
        raise EmbeddingError(
            f"the input is {given}, not a batch of float32 or float64 images",
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
        # a tensor from inference mode records no gradient, its clone does
        yield (x.clone() if x.is_inference() else x).detach().requires_grad_(True)


@contextmanager
def explained(x: Tensor) -> Iterator[None]:
    """Turns an error of a model's forward pass on `x` into an EmbeddingError of one sentence; not one of memory."""
    try:
        yield
    except (ModelspaceError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise EmbeddingError(
            f"the forward pass fails on an input of {tuple(x.shape)} {_type_name(x)}: {_first_line(error)}",
            "check the input size, channels and layout; it gets floats, also of the values 0..255, since bytes have no gradient",
        ) from error


def _module(tap: Tap) -> nn.Module | None:
    """The model behind a tap: its `module`, or the tap itself."""
    module = tap if isinstance(tap, nn.Module) else getattr(tap, "module", None)
    return module if isinstance(module, nn.Module) else None


def encoder_output(tap: Tap, source: Tensor, graphical: bool) -> Tensor:
    """T, checked. source: (B, ...); graphical: whether a backward pass is to follow."""
    with explained(source), torch.set_grad_enabled(graphical):
        output = tap(source.clone())  # a model may change its input in place
    if not isinstance(output, Tensor):
        raise EmbeddingError(f"the encoder output is a {type(output).__name__}, not a tensor", "choose a `layer=`")
    if not output.is_floating_point():
        raise EmbeddingError(
            f"the encoder output is of type {_type_name(output)}, which has no gradient",
            "choose a `layer=` before the rounding or the argmax",
        )
    if output.dim() == 0 or len(output) != len(source) or output.numel() == 0:
        raise EmbeddingError(
            f"the encoder output has shape {tuple(output.shape)} for {len(source)} images: its first axis is not the batch",
            "choose a `layer=` whose first axis is the batch",
        )
    if graphical and output.grad_fn is None:
        raise _no_gradient()
    return output


def _graph_maps(
    tap: Tap, source: Tensor, output: Tensor, wanted: Sequence[MapRequest], centres: Mapping[int, Tensor]
) -> tuple[dict[MapRequest, Tensor], dict[str, Tensor]]:
    """The maps that come from backward passes over one graph, and the plain gradients by what they are of.

    Saliency and gradient*input of one scalar share a backward pass; ε-LRP needs one for each scalar and parameters.
    """
    maps: dict[MapRequest, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    x = source.detach()
    graph = Graph(output.grad_fn, source)
    plain: dict[tuple[str, int], list[MapRequest]] = {}
    for one in wanted:
        if one.method != "epsilon_lrp":
            plain.setdefault((one.scalar, one.images), []).append(one)
    rules = [one for one in wanted if one.method == "epsilon_lrp"]
    lrp_output, lrp_graph = followed(tap, source, output, graph) if rules else (output, graph)
    hooks = {one: plan(lrp_graph, _settings(one)) for one in rules}
    for number, ((scalar, _), group) in enumerate(plain.items(), start=1):
        keep = number < len(plain) or (bool(rules) and lrp_output is output)
        gradient = _backward(output, source, _seed(output, group[0], centres), graph, keep)
        gradients[_GRADIENT if scalar == "sum" else f"the gradient of the {scalar.replace('_', ' ')}"] = gradient
        for one in group:
            maps[one] = gradient.abs() if one.method == "saliency" else gradient * x
    for number, one in enumerate(rules, start=1):
        seed = _seed(lrp_output, one, centres)
        relevance = _backward(lrp_output, source, seed, lrp_graph, keep=number < len(rules), hooks=hooks[one])
        maps[one] = relevance * x
    return maps, gradients


def _settings(one: MapRequest) -> Settings:
    values = dict(one.parameters)
    return Settings(float(values["epsilon"]), str(values["offset"]))


def _captum_maps(tap: Tap, x: Tensor, wanted: Sequence[MapRequest]) -> dict[MapRequest, Tensor]:
    from modelspace.attribution import captum_methods

    forward = _per_image_sum(tap)
    maps = {}
    for one in wanted:
        try:
            maps[one] = captum_methods.COMPUTE[one.method](forward, x, **dict(one.parameters))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise EmbeddingError(
                f"{one.method} fails: {_first_line(error)}", "gradient_x_input needs no Captum"
            ) from error
    return maps


def followed(tap: Tap, source: Tensor, output: Tensor, graph: Graph) -> tuple[Tensor, Graph]:
    """T and its graph with nothing hidden from the rules of ε-LRP.

    Only where the graph has changes in place of a view is a second forward pass needed (`VisibleInPlace`).
    """
    module = _module(tap)
    if module is not None and any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise EmbeddingError(
            "epsilon_lrp can't follow a scripted or traced model (TorchScript)",
            "load the model's Python source, or use gradient_x_input or saliency",
        )
    if "CopySlices" not in graph.kinds.values():
        return output, graph
    with VisibleInPlace():
        again = encoder_output(tap, source, graphical=True)
    return again, Graph(again.grad_fn, source)


def gradient_of(output: Tensor, source: Tensor, weights: Tensor, keep: bool = False) -> Tensor:
    """∂(weights · output)/∂source.

    Args:
        output: T of `source`, which `ready` made.
        source: (B, ...).
        weights: of the shape of `output`.
        keep: whether the graph is needed again.

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
    """∂(weights · output)/∂source with `hooks` on the nodes; keep: whether the graph is needed again."""
    return backward(output, [source], weights, graph, keep, hooks)[0]  # type: ignore[return-value]


def backward(
    output: Tensor,
    sources: Sequence[Tensor],
    weights: Tensor,
    graph: Graph,
    keep: bool,
    hooks: Sequence[tuple[Node, Hook]] = (),
) -> tuple[Tensor | None, ...]:
    """Gradients of weights · output for `sources`; None for a source, but not the first, that it does not depend on."""
    handles = align_batch_norm(graph.kinds)
    try:
        handles += [node.register_hook(hook) for node, hook in hooks]
        gradients = torch.autograd.grad(output, sources, weights, retain_graph=keep, allow_unused=True)
    except NoRule as reason:
        raise refusal([str(reason)]) from reason
    except CheckpointError as error:
        raise EmbeddingError(
            "epsilon_lrp can't look into checkpointed blocks, which are computed anew during the backward pass",
            opaque_hint(["Checkpoint"]) or "",
        ) from error
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        opaque = sorted({node.name() for node in graph.inputs if opaque_hint([node.name()]) is not None})
        reason_text = f"opaque node {', '.join(opaque)}" if opaque else _first_line(error)
        hint = opaque_hint(opaque) or "choose another `layer=`, or mend the model's forward pass"
        raise EmbeddingError(f"the backward pass fails: {reason_text}", hint) from error
    finally:
        for handle in handles:
            handle.remove()
    if gradients[0] is None:
        raise _no_gradient()
    return gradients


def _no_gradient() -> EmbeddingError:
    return EmbeddingError(
        "the encoder output does not depend on the input in a way that has a gradient",
        "choose a `layer=` before the model detaches it",
    )


def _per_image_sum(tap: Tap) -> Callable[[Tensor], Tensor]:
    """Batch -> ΣT of each image, (B,): the scalar forward function that Captum wants."""

    def forward(x: Tensor) -> Tensor:
        output = encoder_output(tap, x, graphical=torch.is_grad_enabled())
        if output.grad_fn is not None:
            align_batch_norm(kinds_below(output.grad_fn))  # the hooks go with the graph
        return output.flatten(1).sum(1) if output.dim() > 1 else output

    return forward


# --- what is refused


def _refuse(tensors: Mapping[str, Tensor]) -> None:
    """Raises an EmbeddingError for tensors (B, ...) that are not finite, or zero, and says for which images."""
    if not tensors:
        return
    # The Euclidean norm costs the fewest passes; one transfer from the device for all of them. Its squares may overflow
    # or vanish where the values do not, so that only the largest absolute value has the last word.
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
            raise EmbeddingError(
                f"{name} is zero everywhere for {_images(zero, len(row))}",
                "no unit of the layer responds to the input; choose another `layer=` or check the preprocessing",
            )


def _rows(values: Tensor) -> Tensor:
    """(B, ...) -> (B, n)"""
    return values.detach().reshape(len(values), -1)


def _images(indices: list[int], n: int) -> str:
    if len(indices) == n and n > 1:
        return f"all {n} images of the batch"
    shown = ", ".join(str(k) for k in indices[:8]) + (" ..." if len(indices) > 8 else "")
    return f"image{'s' if len(indices) > 1 else ''} {shown} of the batch (counted from 0)"


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
