"""An interpreter for TorchScript in Python: operators run in torch's eager mode, submodules become modules.

A scripted or traced module runs in C++: hooks on its submodules are not called, and after a few passes its autograd
graph contains opaque fused nodes. The archive itself is simple: each method is a list of operators, with if, loops and
calls. `from_script` turns it into modules with the same names and weights that run these lists operator by operator.
Their layers can be tapped, and their autograd graph is that of the model's source code.

Unsupported code (an operator, a class defined by the model) raises `UnsupportedScript` before anything is run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _get_operation_overload as get_overload
from torch._C import _jit_get_schemas_for_operator as schemas_for_operator

from modelspace.deprecated import renamed

Values = dict[str, Any]


class UnsupportedScript(Exception):
    """Names the part of the code that can't be interpreted."""


@dataclass
class _Step:
    """One node: its function, and the names of its input and output values."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[..., Any]
    spread: bool = False


@dataclass
class _Block:
    """A list of steps with arguments and results: a function, or the body of an if or a loop."""

    arguments: tuple[str, ...]
    results: tuple[str, ...]
    steps: list[_Step] = field(default_factory=list)

    def __call__(self, values: Values, *arguments: Any) -> list[Any]:
        values.update(zip(self.arguments, arguments, strict=True))
        for step in self.steps:
            inputs = [values[name] for name in step.inputs]
            if step.kind in ("prim::If", "prim::Loop"):
                result = step.run(values, *inputs)
            else:
                result = step.run(*inputs)
            if step.spread or len(step.outputs) > 1:
                values.update(zip(step.outputs, result, strict=True))
            elif step.outputs:
                values[step.outputs[0]] = result
        return [values[name] for name in self.results]


class ScriptNet(nn.Module):
    """A module of a TorchScript archive, with the original names of its submodules, parameters and buffers.

    Attributes:
        script_source: the TorchScript module, in a tuple, so that it is not registered as a submodule.
        script_methods: its compiled methods.
    """

    def __init__(self, script: Any, parameters: dict[int, tuple[Tensor, nn.Parameter]]) -> None:
        super().__init__()
        self.modelspace_kind = str(script.original_name)
        self.script_source = (script,)
        self.script_methods: dict[str, _Block] = {}
        for name, tensor in script.named_parameters(recurse=False):
            if id(tensor) not in parameters:
                parameters[id(tensor)] = (tensor, nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad))
            self.register_parameter(name, parameters[id(tensor)][1])
        persistent = set(script.state_dict())
        for name, tensor in script.named_buffers(recurse=False):
            self.register_buffer(name, tensor, persistent=name in persistent)
        for name, child in script.named_children():
            self.add_module(name, ScriptNet(child, parameters))
        self.train(bool(getattr(script, "training", False)))

    def forward(self, *arguments: Any) -> Any:
        """Run the module's code."""
        return self.method("forward", *arguments)

    def method(self, name: str, *arguments: Any) -> Any:
        """Call a compiled method; missing arguments are None."""
        block = self.script_methods[name]
        return _result(block({}, self, *arguments, *[None] * (len(block.arguments) - 1 - len(arguments))))

    def attribute(self, name: str) -> Any:
        """The value of `self.NAME` in the module's code."""
        if name == "training":
            return self.training
        for table in (self._modules, self._parameters, self._buffers):
            if name in table:
                return table[name]
        return getattr(self.script_source[0], name)

    def constant_calls(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Operators in the code, with their arguments: the value of a constant, None for any other."""
        for part in self.modules():
            if isinstance(part, ScriptNet):
                for block in part.script_methods.values():
                    constants = {step.outputs[0]: step.run() for step in block.steps if step.kind == "prim::Constant"}
                    for step in block.steps:
                        yield step.kind.partition("::")[2], tuple(constants.get(name) for name in step.inputs)


def from_script(script: Any, functions: Any) -> ScriptNet:
    """Turn a scripted or traced module into modules that run in Python.

    Args:
        script: the TorchScript module.
        functions: the compilation unit that it was loaded into, with the functions that it calls.

    Raises:
        UnsupportedScript: its code can't be interpreted.
    """
    net = ScriptNet(script, {})
    _Compiler(functions).module(net)
    return net


def _result(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


class _Compiler:
    """Turns graphs into blocks. Each function is compiled once."""

    def __init__(self, functions: Any) -> None:
        self._unit = functions
        self._functions: dict[str, _Block] = {}
        self._constants = 0

    def module(self, net: ScriptNet) -> None:
        self.method(net, "forward", optional=True)
        for part in net.children():
            if isinstance(part, ScriptNet):
                self.module(part)

    def method(self, net: ScriptNet, name: str, optional: bool = False) -> None:
        if name in net.script_methods:
            return
        script = net.script_source[0]
        try:
            graph = script.graph if name == "forward" else getattr(script, name).graph
        except (AttributeError, RuntimeError) as error:
            if optional:  # a container without a forward()
                return
            raise UnsupportedScript(f"method {name}") from error
        net.script_methods[name] = _Block((), ())  # ends the recursion for a method that calls itself
        net.script_methods[name] = self.block(graph, net)

    def function(self, name: str, net: ScriptNet) -> _Block:
        if name not in self._functions:
            function = self._unit.find_function(name)
            if function is None:
                raise UnsupportedScript(f"function {name}")
            self._functions[name] = self.block(function.graph, net)
        return self._functions[name]

    def block(self, graph: Any, net: ScriptNet) -> _Block:
        block = _Block(_names(graph.inputs()), _names(graph.outputs()))
        block.steps = [self.step(node, net) for node in graph.nodes()]
        return block

    def step(self, node: Any, net: ScriptNet) -> _Step:
        kind = node.kind()
        inputs, outputs = _names(node.inputs()), _names(node.outputs())

        def plain(run: Callable[..., Any], spread: bool = False) -> _Step:
            return _Step(kind, inputs, outputs, run, spread)

        if kind == "prim::Constant":
            return plain(self.constant(node, net))
        if kind == "prim::GetAttr":
            name = node.s("name")
            return plain(lambda owner: owner.attribute(name) if isinstance(owner, ScriptNet) else _refuse(name))
        if kind == "prim::CallMethod":
            return plain(self.call_method(node, net))
        if kind == "prim::CallFunction":
            block = self.function(str(next(iter(node.inputs())).type()), net)
            return plain(lambda _, *arguments: _result(block({}, *arguments)))
        if kind == "prim::If":
            branches = [self.block(inner, net) for inner in node.blocks()]
            return _Step(kind, inputs, outputs, lambda values, test: branches[not test](values), True)
        if kind == "prim::Loop":
            return _Step(kind, inputs, outputs, _loop(self.block(next(iter(node.blocks())), net)), True)
        if kind in _PRIMITIVES:
            return plain(_PRIMITIVES[kind], kind in ("prim::ListUnpack", "prim::TupleUnpack"))
        if kind.startswith("aten::"):
            return plain(_operator(node, kind))
        raise UnsupportedScript(kind)

    def constant(self, node: Any, net: ScriptNet) -> Callable[[], Any]:
        output = node.output()
        if output.type().kind() == "FunctionType":
            return lambda: None
        value = output.toIValue()
        if isinstance(value, Tensor):
            # A frozen archive keeps its weights here; as parameters they move with the model and are fingerprinted.
            name = f"constant{self._constants}"
            self._constants += 1
            if value.is_floating_point() and value.dim() > 0:
                net.register_parameter(name, nn.Parameter(value.detach(), requires_grad=False))
            else:
                net.register_buffer(name, value, persistent=False)
            return lambda: getattr(net, name)
        return lambda: value

    def call_method(self, node: Any, net: ScriptNet) -> Callable[..., Any]:
        name = node.s("name")
        if name == "forward":
            return lambda owner, *arguments: owner(*arguments)
        path: list[str] = []
        origin = next(iter(node.inputs())).node()
        while origin.kind() == "prim::GetAttr":
            path.insert(0, origin.s("name"))
            origin = next(iter(origin.inputs())).node()
        owner = net.get_submodule(".".join(path))
        if origin.kind() != "prim::Param" or not isinstance(owner, ScriptNet):
            raise UnsupportedScript(f"method {name}")
        self.method(owner, name)
        return lambda target, *arguments: target.method(name, *arguments)


def _names(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(value.debugName() for value in values)


def _refuse(name: str) -> Any:
    raise RuntimeError(f"the TorchScript code reads {name!r} of an object that is not a module")


def _loop(body: _Block) -> Callable[..., list[Any]]:
    def run(values: Values, trips: int, condition: bool, *initial: Any) -> list[Any]:
        state = list(initial)
        for number in range(trips):
            if not condition:
                break
            condition, *state = body(values, number, *state)
        return state

    return run


# --- operators


def _operator(node: Any, kind: str) -> Callable[..., Any]:
    """The function of a node: Python's for numbers, strings and lists, else torch's overload with this signature."""
    name, _, overload = str(node.schema()).partition("(")[0].partition(".")
    arguments = _arguments(name, overload)
    if kind in _BY_PYTHON and not (arguments and arguments[0].type.kind() == "TensorType"):
        return _BY_PYTHON[kind]
    function = get_overload(name, overload)
    if function is None:
        raise UnsupportedScript(f"{name}.{overload}")
    run = function[0]
    # The inputs are positional, but some of torch's arguments are keyword-only.
    keywords = [argument.name for argument in arguments if argument.kwarg_only]
    n = len(arguments) - len(keywords)
    return lambda *inputs: run(*inputs[:n], **dict(zip(keywords, inputs[n:], strict=False)))


def _arguments(name: str, overload: str) -> list[Any]:
    """The arguments of an operator."""
    for schema in schemas_for_operator(name):
        if schema.overload_name == overload:
            return list(schema.arguments)
    raise UnsupportedScript(f"{name}.{overload}")


def _append(target: list[Any], value: Any) -> list[Any]:
    target.append(value)
    return target


def _set_item(target: Any, key: Any, value: Any) -> Any:
    target[key] = value
    return target


def _slice(values: Any, start: int | None, stop: int | None, step: int = 1) -> Any:
    return values[slice(start, stop, step)]


def _raise(*message: Any) -> None:
    raise RuntimeError(f"the model's code rejects this input: {message[0] if message else ''}")


def _dictionary(*entries: Any) -> dict[Any, Any]:
    return dict(zip(entries[::2], entries[1::2], strict=True))


_BY_PYTHON: dict[str, Callable[..., Any]] = {
    "aten::__and__": operator.and_,
    "aten::__contains__": lambda values, value: value in values,
    "aten::__getitem__": operator.getitem,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": operator.not_,
    "aten::__or__": operator.or_,
    "aten::_set_item": _set_item,
    "aten::add": lambda a, b, *_: a + b,
    "aten::append": _append,
    "aten::Bool": bool,
    "aten::div": operator.truediv,
    "aten::eq": operator.eq,
    "aten::Float": float,
    "aten::FloatImplicit": float,
    "aten::floordiv": operator.floordiv,
    "aten::format": lambda text, *values: str(text).format(*values),
    "aten::ge": operator.ge,
    "aten::gt": operator.gt,
    "aten::Int": int,
    "aten::IntImplicit": int,
    "aten::keys": lambda table: list(table),
    "aten::le": operator.le,
    "aten::len": len,
    "aten::list": list,
    "aten::lt": operator.lt,
    "aten::mul": operator.mul,
    "aten::ne": operator.ne,
    "aten::neg": operator.neg,
    "aten::remainder": operator.mod,
    "aten::ScalarImplicit": lambda value: value.item(),
    "aten::slice": _slice,
    "aten::sub": lambda a, b, *_: a - b,
    "aten::values": lambda table: list(table.values()),
    "aten::warn": lambda *_: None,
}

_PRIMITIVES: dict[str, Callable[..., Any]] = {
    "prim::device": lambda tensor: tensor.device,
    "prim::DictConstruct": _dictionary,
    "prim::dtype": lambda tensor: tensor.dtype,
    "prim::is_cuda": lambda tensor: tensor.is_cuda,
    "prim::layout": lambda tensor: tensor.layout,
    "prim::ListConstruct": lambda *values: list(values),
    "prim::ListUnpack": lambda values: values,
    "prim::max": max,
    "prim::min": min,
    "prim::NumToTensor": torch.tensor,
    "prim::Print": lambda *_: None,
    "prim::RaiseException": _raise,
    "prim::TupleConstruct": lambda *values: tuple(values),
    "prim::TupleIndex": operator.getitem,
    "prim::TupleUnpack": lambda values: values,
    "prim::unchecked_cast": lambda value: value,
    "prim::unchecked_unwrap_optional": lambda value: value,
    "prim::Uninitialized": lambda: None,
}


__getattr__ = renamed(__name__, {"Unfollowed": "UnsupportedScript"})
