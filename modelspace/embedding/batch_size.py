"""The number of images per pass where the user names none: what a card holds easily, seen from one small pass.

On a CPU 4 to 16 images differ by less than the machine's noise. A card needs more to be busy. The number follows from
the model and the size of the card's memory, not from a clock or from what is free at the moment, so that the same pass
gives the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelspace.attribution.engine import CODE_FAILURES, encoder_output, ready
from modelspace.embedding.embed import DEFAULT_BATCH_SIZE
from modelspace.encoder.layers import Tap

#: Largest number chosen.
MOST = 256

#: Share of a card's memory that what a pass keeps may take; its gradients and another worker's pass need more.
_SHARE = 1 / 16


def batch_size_for(tap: Tap, x: Tensor, memory: int | None = None) -> int:
    """Images per pass: 16 on a CPU, on a card a power of two from 16 to `MOST`.

    Args:
        tap: the tapped model, frozen.
        x: (2, C, H, W), preprocessed, on the model's device.
        memory: of the device, in bytes; default: all memory of a CUDA card.
    """
    if memory is None and x.device.type != "cuda":
        return DEFAULT_BATCH_SIZE
    total = torch.cuda.get_device_properties(x.device).total_memory if memory is None else memory
    try:
        kept = kept_bytes(tap, x) / len(x)
    except CODE_FAILURES:  # the pass itself will say why
        return DEFAULT_BATCH_SIZE
    size = DEFAULT_BATCH_SIZE
    while size < MOST and 2 * size * kept <= _SHARE * total:
        size *= 2
    return size


def kept_bytes(tap: Tap, x: Tensor) -> int:
    """Bytes that a forward pass over a batch keeps for its backward pass, without the model's own parameters."""
    sizes: dict[int, int] = {}
    own = {part.untyped_storage().data_ptr() for part in (*tap.module.parameters(), *tap.module.buffers())}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with ready(tap, x) as source, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = encoder_output(tap, source, graphical=True)  # kept to the end, so that no address is used twice
        assert output.grad_fn is not None
    return sum(sizes.values())
