"""ONNX's recurrent layers, unrolled over time: https://onnx.ai/onnx/operators/onnx__LSTM.html, GRU and RNN.

torch's own recurrent layers are one fused node of the autograd graph, which ε-LRP has no rule for. Unrolled, they are
products, sums, sigmoids and tanhs, whose rules hold: a gate that multiplies a signal is taken for a constant, as in
attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.sources.onnx.nodes import Node, Unsupported, operator, text

Activation = Callable[[Tensor], Tensor]

#: Name to function of (x, alpha, beta); alpha and beta are the defaults that the standard gives where it gives some.
_ACTIVATIONS: dict[str, Callable[[Tensor, float | None, float | None], Tensor]] = {
    "Affine": lambda x, a, b: x * (1.0 if a is None else a) + (0.0 if b is None else b),
    "Elu": lambda x, a, b: F.elu(x, 1.0 if a is None else a),
    "HardSigmoid": lambda x, a, b: (x * (0.2 if a is None else a) + (0.5 if b is None else b)).clamp(0, 1),
    "LeakyRelu": lambda x, a, b: F.leaky_relu(x, 0.01 if a is None else a),
    "Relu": lambda x, a, b: torch.relu(x),
    "ScaledTanh": lambda x, a, b: torch.tanh(x * (1.0 if b is None else b)) * (1.0 if a is None else a),
    "Sigmoid": lambda x, a, b: torch.sigmoid(x),
    "Softplus": lambda x, a, b: F.softplus(x),
    "Softsign": lambda x, a, b: F.softsign(x),
    "Tanh": lambda x, a, b: torch.tanh(x),
    "ThresholdedRelu": lambda x, a, b: torch.where(x > (1.0 if a is None else a), x, torch.zeros_like(x)),
}


@dataclass(frozen=True)
class _Direction:
    """One direction of a layer.

    Attributes:
        weights: (gates · H, in), of the input.
        recurrent: (gates · H, H), of the state.
        bias_w, bias_r: (gates · H,).
        activations: of the gates.
        hidden, cell: (B, H), the states that it begins with; cell None where the kind has none.
        peephole: (3 · H,) of an LSTM, or None.
        is_reverse: whether it goes from the end to the beginning.
    """

    weights: Tensor
    recurrent: Tensor
    bias_w: Tensor
    bias_r: Tensor
    activations: Sequence[Activation]
    hidden: Tensor
    cell: Tensor | None
    peephole: Tensor | None
    is_reverse: bool


@operator("LSTM")
def lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    if node.get("input_forget", 0):
        raise Unsupported("input_forget")
    bias, lengths, hidden, cell, peephole = (*rest, *[None] * 5)[:5]
    x, states = _prepared(node, x, w, lengths, (hidden, cell))
    outputs, finals, cells = [], [], []
    for direction in _directions(node, x, (w, r, bias, peephole), states, ("Sigmoid", "Tanh", "Tanh"), gates=4):
        sequence, last, last_cell = _run_lstm(x, direction)
        outputs.append(sequence)
        finals.append(last)
        cells.append(last_cell)
    return _together(node, outputs, finals, cells)


@operator("GRU")
def gru(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    bias, lengths, hidden = (*rest, *[None] * 3)[:3]
    x, states = _prepared(node, x, w, lengths, (hidden,))
    outputs, finals = [], []
    for direction in _directions(node, x, (w, r, bias, None), states, ("Sigmoid", "Tanh"), gates=3):
        sequence, last = _run_gru(x, direction, bool(node.get("linear_before_reset", 0)))
        outputs.append(sequence)
        finals.append(last)
    return _together(node, outputs, finals)


@operator("RNN")
def rnn(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    bias, lengths, hidden = (*rest, *[None] * 3)[:3]
    x, states = _prepared(node, x, w, lengths, (hidden,))
    outputs, finals = [], []
    for direction in _directions(node, x, (w, r, bias, None), states, ("Tanh",), gates=1):
        (activation,) = direction.activations
        inputs = F.linear(x, direction.weights, direction.bias_w + direction.bias_r)
        state, sequence = direction.hidden, []
        for step in _steps(inputs, direction):
            state = activation(step + F.linear(state, direction.recurrent))
            sequence.append(state)
        outputs.append(_in_time(sequence, direction))
        finals.append(state)
    return _together(node, outputs, finals)


def _run_lstm(x: Tensor, direction: _Direction) -> tuple[Tensor, Tensor, Tensor]:
    gate, candidate, squash = direction.activations
    inputs = F.linear(x, direction.weights, direction.bias_w + direction.bias_r)
    state, cell = direction.hidden, direction.cell
    assert cell is not None
    look_i, look_o, look_f = direction.peephole.chunk(3) if direction.peephole is not None else (None, None, None)
    sequence = []
    for step in _steps(inputs, direction):
        i, o, f, c = (step + F.linear(state, direction.recurrent)).chunk(4, dim=-1)
        if look_i is not None and look_f is not None:
            i, f = i + look_i * cell, f + look_f * cell
        cell = gate(f) * cell + gate(i) * candidate(c)
        if look_o is not None:
            o = o + look_o * cell
        state = gate(o) * squash(cell)
        sequence.append(state)
    return _in_time(sequence, direction), state, cell


def _run_gru(x: Tensor, direction: _Direction, linear_before_reset: bool) -> tuple[Tensor, Tensor]:
    gate, candidate = direction.activations
    size = direction.hidden.shape[-1]
    inputs = F.linear(x, direction.weights, direction.bias_w)
    state, sequence = direction.hidden, []
    of_gates, of_candidate = direction.recurrent[: 2 * size], direction.recurrent[2 * size :]
    bias_gates, bias_candidate = direction.bias_r[: 2 * size], direction.bias_r[2 * size :]
    for step in _steps(inputs, direction):
        update, reset = gate(step[:, : 2 * size] + F.linear(state, of_gates, bias_gates)).chunk(2, dim=-1)
        if linear_before_reset:
            recalled = reset * F.linear(state, of_candidate, bias_candidate)
        else:
            recalled = F.linear(reset * state, of_candidate, bias_candidate)
        new = candidate(step[:, 2 * size :] + recalled)
        state = (1 - update) * new + update * state
        sequence.append(state)
    return _in_time(sequence, direction), state


def _prepared(
    node: Node, x: Tensor, w: Tensor, lengths: Tensor | None, states: Sequence[Tensor | None]
) -> tuple[Tensor, list[Tensor | None]]:
    """The input as (time, B, in), and the states that are given as (directions, B, H)."""
    if node.get("clip") is not None:
        raise Unsupported("clip")
    batch_first = bool(node.get("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
    if lengths is not None and bool((lengths != x.shape[0]).any()):
        raise Unsupported("sequences of different lengths")
    return x, [state.transpose(0, 1) if state is not None and batch_first else state for state in states]


def _directions(
    node: Node,
    x: Tensor,
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    states: Sequence[Tensor | None],
    usual: Sequence[str],
    gates: int,
) -> list[_Direction]:
    """The directions of a layer; weights (directions, ...)."""
    w, r, bias, peephole = tensors
    direction = text(node.get("direction", "forward"))
    is_reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    if direction not in is_reverse:
        raise Unsupported(f"direction {direction}")
    activations = _activations(node, usual, len(is_reverse[direction]))
    size = r.shape[-1]
    zeros = x.new_zeros(x.shape[1], size)
    out = []
    for k, backwards in enumerate(is_reverse[direction]):
        both = bias[k] if bias is not None else x.new_zeros(2 * gates * size)
        begin = [state[k] if state is not None else zeros for state in states]
        out.append(
            _Direction(
                w[k],
                r[k],
                both[: gates * size],
                both[gates * size :],
                activations[k],
                begin[0],
                begin[1] if len(begin) > 1 else None,
                peephole[k] if peephole is not None else None,
                backwards,
            )
        )
    return out


def _activations(node: Node, usual: Sequence[str], n_directions: int) -> list[list[Activation]]:
    """The activations of each direction with their alphas and betas, which are consumed in order."""
    names = [text(name) for name in node.get("activations") or list(usual) * n_directions]
    alphas, betas = list(node.get("activation_alpha") or []), list(node.get("activation_beta") or [])
    functions: list[Activation] = []
    for name in names:
        if name not in _ACTIVATIONS:
            raise Unsupported(f"activation {name}")
        takes_alpha = name in ("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu")
        takes_beta = name in ("Affine", "HardSigmoid", "ScaledTanh")
        alpha = alphas.pop(0) if takes_alpha and alphas else None
        beta = betas.pop(0) if takes_beta and betas else None
        functions.append(partial(_applied, _ACTIVATIONS[name], alpha, beta))
    n = len(usual)
    return [functions[k * n : (k + 1) * n] for k in range(n_directions)]


def _applied(
    function: Callable[[Tensor, float | None, float | None], Tensor], alpha: float | None, beta: float | None, x: Tensor
) -> Tensor:
    return function(x, alpha, beta)


def _steps(inputs: Tensor, direction: _Direction) -> list[Tensor]:
    steps = list(inputs.unbind(0))
    return steps[::-1] if direction.is_reverse else steps


def _in_time(sequence: list[Tensor], direction: _Direction) -> Tensor:
    return torch.stack(sequence[::-1] if direction.is_reverse else sequence)


def _together(node: Node, outputs: list[Tensor], *finals: list[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of all directions, (time, directions, B, H), and their last states, (directions, B, H)."""
    sequence, last = torch.stack(outputs, dim=1), [torch.stack(states) for states in finals]
    if node.get("layout", 0):
        return (sequence.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
    return (sequence, *last)
