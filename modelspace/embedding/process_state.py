"""What model code may change for the whole process: put back afterwards, so that one model can't change the next."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as module_hooks

#: Hooks of all modules, as torch keeps them.
_HOOK_TABLES = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
    "_global_forward_hooks_always_called",
    "_global_forward_hooks_with_kwargs",
    "_global_parameter_registration_hooks",
    "_global_module_registration_hooks",
    "_global_buffer_registration_hooks",
)


def _tf32() -> bool | None:
    """Whether cuDNN may round float32 to TF32; None where torch's newer settings were used, which hide the older one.

    The older one is read and set, since models read it too, and torch raises an error if the newer ones were set.
    """
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def _set_tf32(value: bool | None) -> None:
    if value is not None:
        torch.backends.cudnn.allow_tf32 = value


#: Settings of torch: how each is read and set.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (lambda: torch.is_autocast_enabled("cpu"), lambda value: torch.set_autocast_enabled("cpu", value)),
    (lambda: torch.is_autocast_enabled("cuda"), lambda value: torch.set_autocast_enabled("cuda", value)),
    (lambda: torch.backends.cudnn.enabled, lambda value: setattr(torch.backends.cudnn, "enabled", value)),
    (lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value)),
    (lambda: torch.backends.cudnn.deterministic, lambda value: setattr(torch.backends.cudnn, "deterministic", value)),
    (_tf32, _set_tf32),
    (torch.get_rng_state, torch.set_rng_state),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
    (sys.getrecursionlimit, sys.setrecursionlimit),
)


def compute_exactly() -> None:
    """Let a CUDA device compute float32 as float32, and the same bits every time; call it in `process_state_kept`.

    By default torch lets cuDNN round the factors of a convolution to 10 bits (TF32), and pick algorithms that add in
    an order of their own. Who has set torch's newer `fp32_precision` keeps what it says.
    """
    if _tf32():
        _set_tf32(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Put back settings, random states and hooks of the process at the end, even after an error.

    What model code prints goes to standard error: standard output has only data.
    """
    settings = [(get(), get, put) for get, put in _SETTINGS]
    hooks = {name: dict(getattr(module_hooks, name, {})) for name in _HOOK_TABLES}
    device = torch.get_default_device()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if torch.get_default_device() != device:
            torch.set_default_device(None if device == torch.device("cpu") else device)
        for before, get, put in settings:
            if not _is_same(get(), before):
                put(before)
        for name, table in hooks.items():
            now = getattr(module_hooks, name, {})
            if dict(now) != table:
                now.clear()
                now.update(table)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def _is_same(a: Any, b: Any) -> bool:
    """Whether two settings are equal; they may be tensors, arrays, or tuples of these."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_is_same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)
