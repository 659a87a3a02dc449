"""Add models that misbehave: the result is right or the error is named, and nothing else has changed.

    python scripts/torture/models.py                 # every kind of misbehaviour once
    python scripts/torture/models.py --full          # with 8 seeds
    python scripts/torture/models.py --seed 7 --count 1

Each kind is a small network that does one wrong thing, at all images, or at one that the seed chooses. After each
attempt the module must be bit for bit what it was, and so must the settings of torch and the random states. A model
that was refused must leave the registry as it was, and one that was added must have the maps of the same network
without the misbehaviour.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelspace import Preprocessing, attribution
from modelspace.embedding import limits
from modelspace.errors import ModelspaceError
from modelspace.probes.preprocess import to_input
from modelspace.registry import Registry
from modelspace.results import Added
from modelspace.spaces import probe_sets
from modelspace.workspace import ModelSpace

SIDE, N_IMAGES, ROUNDS_IN_FULL = 16, 10, 8
PREPROCESSING = Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)

#: Largest accepted distance of an affinity from that of the network without the misbehaviour.
EXACT = 1e-5


class Net(nn.Module):
    """A small classifier that calls `act` on its input and `turn` on its features."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv1 = nn.Conv2d(3, 6, 3, 2, 1)
        self.conv2 = nn.Conv2d(6, 6, 3, 2, 1)
        self.register_buffer("seen", torch.zeros(3))
        self.fc = nn.Linear(6, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)

    def forward(self, x: Tensor) -> Any:
        x = self.act(x)
        x = torch.relu(self.conv1(x))
        features = torch.nn.functional.silu(self.conv2(x)).mean((2, 3))
        return self.fc(self.turn(features))

    def act(self, x: Tensor) -> Tensor:
        return x

    def turn(self, features: Tensor) -> Tensor:
        return features


@dataclass
class Case:
    """One attempt.

    Attributes:
        kind: what is wrong.
        module: the network.
        expected: a pattern of the error's message; empty if the model must be added with the right maps.
        has_kernels: whether it is added to the spaces that need no gradient, with a note of the pattern `expected`.
        options: of `ModelSpace.add`.
        finish: called after it.
    """

    kind: str
    module: nn.Module
    expected: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[], None] = lambda: None
    has_kernels: bool = False


def odd(base: int, act: Any = None, turn: Any = None) -> Net:
    """A network whose `act` and `turn` are the given functions of (network, tensor)."""

    class Odd(Net):
        def act(self, x: Tensor) -> Tensor:
            return x if act is None else act(self, x)

        def turn(self, features: Tensor) -> Tensor:
            return features if turn is None else turn(self, features)

    return Odd(base)


class Trouble:
    """Finds the chosen image in a batch, whatever the type of its numbers."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def rows(self, x: Tensor) -> Tensor:
        """(B,) whether each row is the image."""
        return (x.detach() - self.image.to(x)).abs().amax((1, 2, 3)) < 1e-5

    def is_in(self, x: Tensor) -> bool:
        return bool(self.rows(x).any())


class _Raising(torch.autograd.Function):
    """The identity, whose backward pass raises what the class attribute holds."""

    error: BaseException = ValueError("in the backward pass")

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, __: Tensor) -> Tensor:
        raise _Raising.error


def numbers(seed: int, trouble: Trouble) -> Iterator[Case]:
    """Outputs and gradients that are not finite, or zero."""
    refused = "not finite|is zero|has no gradient|no gradient"

    def spoiled(value: float) -> Any:
        return lambda _, x: torch.where(trouble.rows(x)[:, None, None, None], torch.full_like(x, value), x)

    yield Case("NaN for one image", odd(seed, spoiled(float("nan"))), refused)
    yield Case("inf for one image", odd(seed, spoiled(float("inf"))), refused)
    yield Case("NaN for all", odd(seed, turn=lambda _, f: f * float("nan")), refused)
    yield Case("inf for all", odd(seed, turn=lambda _, f: f + float("inf")), refused)
    yield Case("overflow", odd(seed, turn=lambda _, f: f.float() * 3e38 * 1e10), refused)
    yield Case("zero for all", odd(seed, turn=lambda _, f: f * 0.0), refused)
    yield Case("constant", odd(seed, turn=lambda _, f: torch.ones_like(f)), refused, {"layer": "fc:in"})
    yield Case("no gradient for one image", odd(seed, spoiled(0.5)), refused, has_kernels=True)
    # the derivative of sqrt at 0 is infinite
    yield Case("infinite gradient", odd(seed, lambda _, x: x + (x - x).sqrt()), refused)
    yield Case("detached", odd(seed, turn=lambda _, f: f.detach()), refused, {"layer": "fc:in"}, has_kernels=True)


def exceptions(seed: int, trouble: Trouble) -> Iterator[Case]:
    """Exceptions in the forward and the backward pass, also those that would end a program."""
    kinds: tuple[BaseException, ...] = (
        ValueError("of no use"),
        RuntimeError("of no use"),
        KeyError(),
        AssertionError(),
        StopIteration("of no use"),
        OSError(2, "of no use", "file"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "of no use"),
        SystemExit(0),
        GeneratorExit(),
        ZeroDivisionError("\x1b[31mof\nno use"),
    )

    def raising(error: BaseException, always: bool) -> Any:
        def act(_: Net, x: Tensor) -> Tensor:
            if always or trouble.is_in(x):
                raise error
            return x

        return act

    def recursive(_: Net, x: Tensor) -> Tensor:
        return recursive(_, x)

    for error in kinds:
        for always in (False, True):
            where = "always" if always else "at one image"
            yield Case(f"{type(error).__name__} {where}", odd(seed, raising(error, always)), "forward pass fails|fails")
    yield Case("endless recursion", odd(seed, recursive), "fails")
    for error in (*kinds[:4], SystemExit(3)):

        def backward(_: Net, x: Tensor, error: BaseException = error) -> Tensor:
            _Raising.error = error
            return _Raising.apply(x) if trouble.is_in(x) else x

        yield Case(f"{type(error).__name__} in the backward pass", odd(seed, backward), "backward pass fails|fails")


def outputs(seed: int) -> Iterator[Case]:
    """Outputs that are no tensor with one row for each image."""

    def giving(value: Any) -> Net:
        class Giving(Net):
            def forward(self, x: Tensor) -> Any:
                return value(super().forward(x))

        return Giving(seed)

    values: dict[str, Any] = {
        "nothing": lambda _: None,
        "a number": lambda _: 3,
        "a text": lambda _: "features",
        "a list of itself": lambda _: _recursive_list(),
        "no rows": lambda y: y[:0],
        "one row too many": lambda y: torch.cat([y, y[:1]]),
        "a scalar": lambda y: y.sum(),
        "integers": lambda y: y.argmax(1),
        "complex numbers": lambda y: torch.view_as_complex(y[:, :2].contiguous()),
        "no numbers": lambda y: y[:, :0],
        "half precision": lambda y: y.half(),
    }
    for name, value in values.items():
        options = {"layer": "output"}
        yield Case(f"output: {name}", giving(value), ".", options)


def _recursive_list() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def changes(seed: int, trouble: Trouble) -> Iterator[Case]:
    """Networks that change their own weights, buffers, modes, hooks and input."""
    overwrites = "overwrites its own parameter|keeps state|fails"

    def data(net: Net, x: Tensor) -> Tensor:
        net.conv1.weight.data.add_(1e-7)
        return x

    def data_at_one_image(net: Net, x: Tensor) -> Tensor:
        if trouble.is_in(x):
            net.conv1.weight.data.mul_(1 + 1e-6)
        return x

    def inplace(net: Net, x: Tensor) -> Tensor:
        with torch.no_grad():
            net.conv1.weight.mul_(0.999)
        return x

    def swapped(net: Net, x: Tensor) -> Tensor:
        net.conv1.weight.data = net.conv1.weight.data * (1 + 1e-6)
        return x

    def counted(net: Net, x: Tensor) -> Tensor:
        net.seen += 1
        return x

    def exchanged(net: Net, x: Tensor) -> Tensor:
        net.seen = net.seen + 1
        return x

    def attribute(net: Net, x: Tensor) -> Tensor:
        net.cache, net.training = x.detach(), True
        return x

    def gradients(net: Net, x: Tensor) -> Tensor:
        net.conv1.weight.requires_grad_(True)
        net.fc.weight.grad = torch.ones_like(net.fc.weight)
        return x

    def hooked(net: Net, x: Tensor) -> Tensor:
        net.conv1.register_forward_hook(lambda *_: None)
        return x

    for name, act in {
        "writes past autograd": data,
        "writes at one image": data_at_one_image,
        "writes in place": inplace,
        "exchanges its weights": swapped,
    }.items():
        yield Case(name, odd(seed, act), overwrites)
    yield Case("counts in a buffer", odd(seed, counted), "keeps state")
    yield Case("exchanges a buffer", odd(seed, exchanged), "keeps state|")
    for name, act in {"sets attributes": attribute, "sets gradients": gradients, "adds hooks": hooked}.items():
        yield Case(name, odd(seed, act))
    yield Case("writes into its input", odd(seed, lambda _, x: x.add_(0.0).mul_(1.0)))
    trained = odd(seed)
    trained.conv1.register_forward_pre_hook(lambda _, args: (args[0] * 1.0,))
    trained.conv1.register_forward_hook(lambda *_: None)
    trained.conv2.register_full_backward_hook(lambda *_: None)
    trained.fc.weight.register_hook(lambda gradient: gradient * 2)
    trained.train()
    yield Case("hooks of its own", trained)


def settings(seed: int) -> Iterator[Case]:
    """Networks that leave settings of the whole process changed."""

    def everything(_: Net, features: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        torch.set_num_threads(max(1, torch.get_num_threads() % 2 + 1))
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.set_float32_matmul_precision("medium")
        sys.setrecursionlimit(sys.getrecursionlimit() + 1)
        print("this is no data")
        return features

    def gradients_off(_: Net, x: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return x

    def hooks_of_all(_: Net, x: Tensor) -> Tensor:
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
        return x

    def anomalies(_: Net, x: Tensor) -> Tensor:
        torch.autograd.set_detect_anomaly(True, check_nan=False)
        return x

    yield Case("settings of torch", odd(seed, turn=everything))
    yield Case("gradients off", odd(seed, gradients_off), "no gradient")
    yield Case("hooks of all modules", odd(seed, hooks_of_all))
    yield Case("anomaly mode", odd(seed, anomalies))
    stop = threading.Event()

    def thread(_: Net, x: Tensor) -> Tensor:
        threading.Thread(target=stop.wait).start()
        return x

    yield Case("threads", odd(seed, thread), finish=stop.set)


def endless(seed: int, trouble: Trouble) -> Iterator[Case]:
    """Networks that do not come back, with a time limit."""

    def loop(_: Net, x: Tensor) -> Tensor:
        while True:
            pass

    def deaf(_: Net, x: Tensor) -> Tensor:
        while trouble.is_in(x):
            try:
                while True:
                    pass
            except Exception:
                continue
        return x

    def sleep(_: Net, x: Tensor) -> Tensor:
        time.sleep(1000 if trouble.is_in(x) else 0)
        return x

    for name, act in {"endless loop": loop, "endless loop at one image": deaf, "sleep": sleep}.items():
        yield Case(name, odd(seed, act), r"did not end within|would take about", {"max_seconds": 1.0})


def memory(seed: int, rng: random.Random) -> Iterator[Case]:
    """Networks for which memory runs out in batches of more than a few images."""

    def short(most: int, error: Callable[[], Any]) -> Any:
        def act(_: Net, x: Tensor) -> Tensor:
            if len(x) > most:
                error()
            return x

        return act

    def raised(error: BaseException) -> Callable[[], Any]:
        def function() -> None:
            raise error

        return function

    # The checks of a model run three images at once.
    most = rng.choice((3, 4, 5))
    errors = {
        "of the allocator": lambda: torch.empty(1 << 52),
        "of CUDA": raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")),
        "of Python": raised(MemoryError()),
    }
    for name, error in errors.items():
        options = {"batch_size": rng.choice((7, 8, N_IMAGES))}
        yield Case(f"memory {name}", odd(seed, short(most, error)), options=options)
        yield Case(f"memory {name}, always", odd(seed, short(0, error)), "memory ran out")


def cases(seed: int, inputs: Tensor) -> list[Case]:
    """All kinds, with the random choices of a seed."""
    rng = random.Random(seed)
    trouble = Trouble(inputs[rng.randrange(2, N_IMAGES)])
    everything = [
        *numbers(seed, trouble),
        *exceptions(seed, trouble),
        *outputs(seed),
        *changes(seed, trouble),
        *settings(seed),
        *endless(seed, trouble),
        *memory(seed, rng),
    ]
    for case in everything:
        case.options.setdefault("batch_size", rng.choice((1, 3, 7, 16)))
    return everything


# ---- what must not change


def of_module(module: nn.Module) -> dict[str, Any]:
    """The observable state of a module."""
    state: dict[str, Any] = {name: _bytes(value) for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        gradient = None if parameter.grad is None else _bytes(parameter.grad)
        state[f"{name}: gradient"] = (parameter.requires_grad, gradient, id(parameter))
    for name, part in module.named_modules():
        state[f"{name}: mode"] = part.training
        state[f"{name}: attributes"] = sorted(vars(part))
        for table in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            state[f"{name}: {table}"] = [(key, id(hook)) for key, hook in getattr(part, table).items()]
    return state


def of_process() -> dict[str, Any]:
    """Settings and random states of the process."""
    from torch.nn.modules import module as hooks

    return {
        "default type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
        "anomalies": torch.is_anomaly_enabled(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "precision": torch.get_float32_matmul_precision(),
        "torch": _bytes(torch.get_rng_state()),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "hooks": list(hooks._global_forward_hooks),  # noqa: SLF001 - torch has no public name for them
        "recursion": sys.getrecursionlimit(),
    }


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what differs."""
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


# ---- the attempts


class Torture:
    """A registry to which models are added that misbehave.

    Args:
        home: an empty folder.

    Attributes:
        added, refused: number of attempts that ended so.
        failures: what was wrong, with what reproduces it.
    """

    def __init__(self, home: Path) -> None:
        methods = ("gradient_x_input", "saliency", "integrated_gradients", "dds")
        self.space = ModelSpace.create(home, methods=methods, images=N_IMAGES, canvas=8, bits=32)
        with Registry.open(self.space.path) as registry:
            (row,) = registry.probe_sets()
        images = np.concatenate(list(probe_sets.images(self.space.path, row, 0, N_IMAGES, N_IMAGES)))
        self.inputs = to_input(images, PREPROCESSING, torch.device("cpu"))
        self.added = self.refused = 0
        self.failures: list[str] = []
        limits.PATIENCE = 0.5

    def round(self, seed: int, step: int = 1) -> None:
        """Every kind once, or every kind number `step`."""
        self.space.add(Net(seed), name="plain", preprocessing=PREPROCESSING, replace=True)
        for case in cases(seed, self.inputs)[seed % step :: step]:
            self.attempt(case, f"--seed {seed} --count 1")
        if broken := [check.what for check in self.space.verify(deep=True) if not check.ok]:
            self.failures.append(f"after seed {seed}: verify finds {', '.join(broken)}")

    def attempt(self, case: Case, reproduce: str) -> None:
        """Add a model, and compare everything with what it was before."""

        def fail(text: str) -> None:
            self.failures.append(f"{case.kind}: {text} ({reproduce})")

        case.module.fc.weight.grad = torch.full_like(case.module.fc.weight, 0.25)
        module, process, registry = of_module(case.module), of_process(), self.space.path.read_bytes()
        message = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                added = self.space.add(case.module, name="odd", preprocessing=PREPROCESSING, **case.options)
            except ModelspaceError as error:
                message = error.message
            except BaseException as error:
                fail(f"{type(error).__name__} instead of a named error: {error}")
                message = ""
            finally:
                case.finish()
        for name in differences(process, of_process()):
            fail(f"the process's {name} changed")
        for name in differences(module, of_module(case.module)):
            fail(f"the module's {name} changed")
        if message is None and case.has_kernels:
            self._judge_kernels(case, added, fail)
        elif message is None:
            self._judge_added(case, fail)
        else:
            self.refused += 1
            if self.space.path.read_bytes() != registry or self.space.waiting():
                fail("it was refused, and the registry changed")
            if not case.expected or not re.search(case.expected, message):
                fail(f"refused: {message!r}, expected {case.expected or 'that it is added'!r}")

    def _judge_kernels(self, case: Case, added: Added, fail: Callable[[str], None]) -> None:
        self.added += 1
        without = {row.name for row in self.space.spaces() if row.method in attribution.METHODS}
        if not added.spaces or without & set(added.spaces):
            fail(f"it was added to {', '.join(added.spaces) or 'no space'}")
        if not any(re.search(case.expected, note) for note in added.notes):
            fail("no note says why it is not in the other spaces")
        self.space.remove("odd")

    def _judge_added(self, case: Case, fail: Callable[[str], None]) -> None:
        self.added += 1
        if re.search(case.expected, "") is None:
            fail("it was added, and should have been refused")
        for row in self.space.spaces():
            table = self.space.affinity(row.name)
            if "odd" not in table.names:
                fail(f"it is not in {row.name}")
                continue
            distance = 1 - table.matrix[table.names.index("odd"), table.names.index("plain")]
            if not abs(distance) <= EXACT:
                fail(f"its maps in {row.name} are off by {distance:.1e}")
        self.space.remove("odd")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1, help="number of seeds")
    parser.add_argument("--full", action="store_true", help=f"{ROUNDS_IN_FULL} seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    count = ROUNDS_IN_FULL if options.full else options.count
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        torture = Torture(Path(folder) / "home")
        for seed in range(options.seed, options.seed + count):
            torture.round(seed)
        kinds = len(cases(0, torture.inputs))
    figures = {
        "kinds of misbehaviour": kinds,
        "attempts": torture.added + torture.refused,
        "added with the right maps": torture.added,
        "refused by a named error": torture.refused,
        "failures": len(torture.failures),
    }
    seconds = time.monotonic() - started
    if options.out:
        options.out.write_text(json.dumps({"figures": figures, "seconds": round(seconds, 1)}, indent=2) + "\n")
    for failure in torture.failures:
        print(f"FAILED: {failure}")
    print(f"models that misbehave: {', '.join(f'{value} {name}' for name, value in figures.items())} ({seconds:.0f} s)")
    return 1 if torture.failures else 0


if __name__ == "__main__":
    sys.exit(main())
