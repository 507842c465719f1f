"""`torch.export` (training IR, not decomposed) to our graph, through the table of `aten.py`.

In-place ops become ordinary ones by renaming: every later reader of a mutated tensor reads the new value. That is exact
as long as no other tensor shares its storage; where a view is mutated, torch's own functionalisation
(`run_decompositions({})`) rewrites the program first. Renaming costs nothing, the rewrite as much as the export.
"""

from __future__ import annotations

import inspect
import io
import logging
import operator
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from exporter.capture.aten import ATEN, NOISE, Builder, Unsupported
from exporter.capture.untraceable import check_traceable, untraceable
from exporter.errors import ExportError, UnsupportedError, UsageError
from exporter.ir.graph import Graph, Source, Value

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')
SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_BRANCH = "control flow that the values of a tensor decide"
_BLOCKS = {
    "wrap_with_autocast": "torch.autocast: export the model without it",
    "wrap_with_set_grad_enabled": "torch.enable_grad: export the model without it",
}
_TORCH = str(Path(torch.__file__).parent)


def capture(
    module: nn.Module,
    example: Sequence[Tensor],
    *,
    name: str = "model",
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    inside: str = "",
) -> Graph:
    """Trace `module` on `example` (float32 tensors, static shapes) and translate it op by op.

    Inputs are named after `forward`'s parameters, outputs after their keys in the returned structure, unless
    names are given. `inside` is the path of the user's model in a wrapper of ours, whose forward takes the same: names
    and sources leave it out.
    The module is put into eval mode. Raises UnsupportedError listing every op that has no
    translation, with module path and source line.
    """
    module.eval()
    if inside and not input_names:
        parameters = list(inspect.signature(module.get_submodule(inside).forward).parameters)[: len(example)]
        input_names = parameters if len(parameters) == len(example) else ()
    check_traceable(module, example)
    inputs = tuple(x.detach().clone() for x in example)  # one tensor given twice would become one input
    try:
        with torch.no_grad(), _without_chatter():
            program = torch.export.export(module, inputs, strict=False)
    except ExportError:
        raise
    except Exception as error:
        raise untraceable(module.get_submodule(inside), error) from error
    _erase_identities(program)
    if _mutates_shared_storage(program):
        with _without_chatter():
            program = program.run_decompositions({})
    return _Translator(program, name, input_names, output_names, inside).graph


@contextmanager
def _without_chatter() -> Iterator[None]:
    """torch.export warns about its own innards, and prints its graph before it raises: our one message says it all."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


class _Translator:
    """Walks the fx graph once; `env` maps every fx node to our Value (or a list of them)."""

    def __init__(
        self, program: ExportedProgram, name: str, input_names: Sequence[str], output_names: Sequence[str], inside: str
    ) -> None:
        self.program, self.inside = program, f"{inside}." if inside else ""
        self.graph = Graph(name)
        self.builder = Builder(self.graph)
        self.env: dict[fx.Node, Any] = {}
        self.same: dict[fx.Node, list[fx.Node]] = {}
        self.objects: set[fx.Node] = set()
        self.offenders: list[str] = []
        self.count = 0
        self._placeholders(list(input_names))
        for node in program.graph.nodes:
            if node.op == "call_function":
                self._call(node)
        if self.offenders:
            raise UnsupportedError(
                f"{len(self.offenders)} of {self.count} nodes cannot be captured",
                where=self.offenders,
                why="these ops have no translation to the op vocabulary (exporter/capture/aten)",
                try_="rewrite those lines with supported ops, or add the op: see docs/adding-an-op.md",
            )
        self._outputs(list(output_names))
        self.graph.prune()

    # --- inputs and outputs -------------------------------------------------------------------------------------------
    def _placeholders(self, names: list[str]) -> None:
        specs = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        wanted = len(self.program.graph_signature.user_inputs)
        if names and len(names) != wanted:
            raise UsageError(f"{len(names)} input names for {wanted} inputs", try_="fix input_names")
        placeholders = [(node, specs[node.name]) for node in self.program.graph.nodes if node.op == "placeholder"]
        users = [node for node, spec in placeholders if spec.kind is InputKind.USER_INPUT]
        for node, name in zip(users, names or [node.name for node in users], strict=True):
            self.env[node] = self.graph.add_input(
                name, tuple(node.meta["val"].shape)
            )  # first: a buffer may bear its name
        constants: dict[object, Value] = {}
        for node, spec in placeholders:
            if spec.kind is InputKind.CUSTOM_OBJ:
                self.env[node] = None
                self.objects.add(node)
            elif spec.kind is not InputKind.USER_INPUT and spec.target is not None:
                tensor = _stored(self.program, spec.target)
                memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)  # tied weights share it
                if memory not in constants:
                    constants[memory] = self.graph.constant(spec.target.removeprefix(self.inside), tensor)
                self.env[node] = constants[memory]

    def _outputs(self, names: list[str]) -> None:
        (node,) = (n for n in self.program.graph.nodes if n.op == "output")
        signature = self.program.graph_signature.output_specs
        if changed := [str(spec.target) for spec in signature if spec.kind is OutputKind.BUFFER_MUTATION]:
            raise UnsupportedError(
                f"forward() changes {len(changed)} buffers",
                where=changed,
                why="a file has no memory from one call to the next",
                try_="pass the state in and return it, or leave it out in eval mode",
            )
        leaves = [arg for arg, spec in zip(node.args[0], signature, strict=True) if spec.kind is OutputKind.USER_OUTPUT]
        keys = output_keys(self.program, len(leaves))
        named = [(key, self.env[arg]) for key, arg in zip(keys, leaves, strict=True) if isinstance(arg, fx.Node)]
        values = [value for _, value in named]
        names = names or [key for key, _ in named]
        if not values:
            raise UsageError("forward() returns no tensor", try_="return what the file is to compute")
        if len(names) != len(values):
            raise UsageError(f"{len(names)} output names for {len(values)} outputs", try_="fix output_names")
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise UsageError(f"output names must differ: {', '.join(repeated)}", try_="fix output_names")
        if "" in names:
            raise UsageError("an output name is empty", try_="fix output_names")
        if fixed := [name for name, value in zip(names, values, strict=True) if value.const is not None]:
            raise UnsupportedError(
                f"{', '.join(fixed)} does not depend on the input",
                why="a constant output would only make the file larger",
                try_="leave it out of what forward() returns, and ship it beside the model",
            )
        self.graph.set_outputs(dict(zip(names, values, strict=True)))

    # --- one call -----------------------------------------------------------------------------------------------------
    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            base, index = node.args
            assert isinstance(base, fx.Node)
            self.env[node] = self.env[base][index]
            if self.env[node] is None and node.users:
                self.offenders.append(f"{_name(base):<14} {self._source(base)}  only its first result is supported")
                self.env[node] = self._stand_in(node)
            return
        packet = _name(node)
        if isinstance(node.meta.get("val"), SYMBOLIC) and packet not in ("item", "_local_scalar_dense"):
            self.env[node] = None  # a size that the values decide: the op that it comes from is the offender
            return
        self.count += 1
        if isinstance(node.target, HigherOrderOperator):
            self.offenders.append(f"{packet:<14} {self._source_inside(node)}  {_BLOCKS.get(packet, _BRANCH)}")
            self.env[node] = self._stand_in(node)
            return
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        in_place = packet.endswith("_") and not packet.startswith("_")
        functional = packet.rstrip("_") if in_place else packet
        source = self._source(node)
        if functional in NOISE:
            self.env[node] = args[0] if args else None
            return
        self.builder.source = source
        try:
            self._refuse_what_is_no_constant(node)
            if _all_constant(args) and _all_constant(tuple(kwargs.values())) and not in_place:
                result = self._evaluate(node, args, kwargs)
            elif (handler := ATEN.get(functional)) is not None:
                result = handler(self.builder, *args, **kwargs)
            else:
                raise Unsupported("")
        except Exception as error:  # a handler meets a call that its author did not think of: one more offender
            reason = str(error) if isinstance(error, Unsupported) else _summary(error)
            reason = reason or _size_by_values(node)
            self.offenders.append(f"{functional:<14} {source}" + (f"  {reason}" if reason else ""))
            result = self._stand_in(node)
        self.env[node] = result
        if in_place and isinstance(node.args[0], fx.Node):
            self._rebind(node.args[0], node, result)

    def _source(self, node: fx.Node) -> Source:
        source = source_of(node)
        return replace(source, module=source.module.removeprefix(self.inside))

    def _source_inside(self, node: fx.Node) -> Source:
        """Where a block stands: it has no line of its own, but what it holds has."""
        stored = [str(arg.target) for arg in node.all_input_nodes if arg.op == "get_attr"]
        blocks = (getattr(self.program.graph_module, name).graph for name in stored)
        inner = (n for block in blocks for n in block.nodes if n.op == "call_function")
        return next((source for n in inner if (source := self._source(n)).line), self._source(node))

    def _refuse_what_is_no_constant(self, node: fx.Node) -> None:
        """Random numbers differ at every call, and an object that is no tensor may hold any state.

        Attention is random in its dropout alone, which its translation refuses, and so are recurrent layers.
        """
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if _name(node) in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            raise Unsupported("a recurrent layer: none is supported")
        if random and _name(node) != "scaled_dot_product_attention":
            dropout = "dropout" in _name(node)
            raise Unsupported("dropout with training=True" if dropout else "random: other numbers at every call")
        if stored := [operand.name for operand in node.all_input_nodes if operand in self.objects]:
            raise Unsupported(f"{stored[0]} is not a tensor")

    def _rebind(self, mutated: fx.Node, node: fx.Node, result: Any) -> None:
        """Later readers of the mutated tensor, under any name it has had, read the result."""
        aliases = self.same.setdefault(mutated, [mutated])
        aliases.append(node)
        self.same[node] = aliases
        for alias in aliases:
            self.env[alias] = result

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.env[argument]
        if isinstance(argument, dict):
            return {key: self._resolve(item) for key, item in argument.items()}
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._resolve(item) for item in argument)
        return argument

    def _evaluate(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """A call on constants alone (fusion weights, anchors) is a constant."""
        assert callable(node.target)
        result = node.target(*_tensors(args), **_tensors(kwargs))
        if isinstance(result, (list, tuple)):
            return [self.graph.constant(node.name, item) for item in result]
        return self.graph.constant(node.name, result) if isinstance(result, Tensor) else result

    def _stand_in(self, node: fx.Node) -> Any:
        """A value of the right shape, so that the walk goes on and finds every offender."""
        meta = node.meta.get("val")
        if isinstance(meta, (list, tuple)):
            return [Value(node.name, tuple(item.shape), item.dtype) for item in meta]
        return Value(node.name, tuple(meta.shape), meta.dtype) if isinstance(meta, Tensor) else None


def _name(node: fx.Node) -> str:
    """The name of the ATen op, or of one of ours, without overload."""
    return str(node.target).removeprefix("aten.").removeprefix("edge_export.").split(".")[0]


def source_of(node: fx.Node) -> Source:
    """The innermost module, and the innermost stack frame outside torch."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next((p for p, _ in reversed(list(stack.values()))), "")
    frames = [m for m in _FRAME.finditer(node.meta.get("stack_trace") or "") if not m["file"].startswith(_TORCH)]
    module = re.sub(r"@\d+", "", str(path))
    if not frames:
        return Source(module)
    frame = frames[-1]
    return Source(module, Path(frame["file"]).name, int(frame["line"]), frame["code"].strip())


def output_keys(program: ExportedProgram, count: int) -> list[str]:
    """Names from the returned structure: dict keys and positions joined by `_`; a lone tensor is `output`."""
    spec = program.call_spec.out_spec
    tree = torch.utils._pytree.tree_unflatten(list(range(count)), spec)
    paths, _ = torch.utils._pytree.tree_flatten_with_path(tree)
    keys = [
        "_".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path) for path, _ in paths
    ]
    return [f"output_{key}" if key[:1].isdigit() else key or "output" for key in keys]


def _size_by_values(node: fx.Node) -> str:
    """What is wrong with an op like nonzero; empty for one whose result has a known shape."""
    values = node.meta.get("val")
    tensors = [v for v in (values if isinstance(values, (list, tuple)) else [values]) if isinstance(v, Tensor)]
    unknown = any(isinstance(n, torch.SymInt) for t in tensors for n in t.shape)
    return "how many elements come out depends on the values" if unknown else ""


def _summary(error: Exception) -> str:
    """The exception's class and the first line of its text."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _erase_identities(program: ExportedProgram) -> None:
    """Remove the calls that return their input itself while their schema promises a new tensor.

    A write to the result is a write to the input; neither renaming nor torch's functionalisation would know.
    """
    for node in list(program.graph.nodes):
        if node.op == "call_function" and _returns_its_input(node):
            program.graph_signature.replace_all_uses(node.name, node.args[0].name)
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()


def _returns_its_input(node: fx.Node) -> bool:
    name = _name(node).rstrip("_")
    if name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
        _, probability, training = node.args
        return not (training and probability)
    if name == "type_as":
        return len({operand.meta["val"].dtype for operand in node.all_input_nodes}) == 1
    return False


def _mutates_shared_storage(program: ExportedProgram) -> bool:
    """Whether an in-place op writes to a tensor that is a view, or of which a view exists."""
    base: dict[fx.Node, fx.Node] = {}
    viewed: set[fx.Node] = set()
    written: set[fx.Node] = set()
    for node in program.graph.nodes:
        base[node] = node
        if node.op != "call_function":
            continue
        if node.target is operator.getitem:
            base[node] = base[node.args[0]]
            continue
        schema = getattr(node.target, "_schema", None)
        for argument, formal in zip(node.args, schema.arguments if schema else (), strict=False):
            if not isinstance(argument, fx.Node) or formal.alias_info is None:
                continue
            base[node] = base[argument]
            (written if formal.alias_info.is_write else viewed).add(base[argument])
    return any(node in viewed or node.op == "placeholder" for node in written)


def _stored(program: ExportedProgram, target: str) -> Tensor:
    tensor = program.state_dict.get(target)
    if tensor is None:
        tensor = program.constants[target]
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _all_constant(argument: Any) -> bool:
    if isinstance(argument, Value):
        return argument.const is not None
    if isinstance(argument, (list, tuple)):
        return all(_all_constant(item) for item in argument)
    return True


def _tensors(argument: Any) -> Any:
    if isinstance(argument, Value):
        return argument.const
    if isinstance(argument, dict):
        return {key: _tensors(item) for key, item in argument.items()}
    if isinstance(argument, (list, tuple)):
        return type(argument)(_tensors(item) for item in argument)
    return argument
