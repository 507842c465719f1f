"""Agreement: what the files hold, read back and compared with the graph's own integers, value by value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.integer import saturating_steps
from exporter.ir.quant import QuantParams
from exporter.verify.readback import Constant, Params, Stored, read_back
from exporter.verify.results import Agreement, Compared, Difference

BIAS = 2


def agree(graph: Graph, files: Mapping[str, Path]) -> tuple[Agreement, ...]:
    """One row a file (name -> path), each written from the quantised `graph`. Files that all equal the graph equal one
    another. Raises the errors of `read_back`.
    """
    return tuple(compare(name, graph, read_back(path, graph)) for name, path in files.items())


def compare(file: str, graph: Graph, stored: Stored) -> Agreement:
    """Every quantised value of the graph is compared, absent for a reason, or a difference; and so is whatever the
    file holds beside them.
    """
    return _Comparison(file, graph, stored).result()


class _Tally:
    def __init__(self) -> None:
        self.count = self.equal = 0

    def add(self, count: int, equal: int) -> None:
        self.count, self.equal = self.count + count, self.equal + equal

    def result(self) -> Compared:
        return Compared(count=self.count, equal=self.equal)


class _Comparison:
    def __init__(self, file: str, graph: Graph, stored: Stored) -> None:
        self.file, self.graph, self.stored = file, graph, stored
        self.parameters, self.weights, self.biases = _Tally(), _Tally(), _Tally()
        self.added = 0
        self.biases_as: set[str] = set()
        self.absent: dict[str, str] = {}
        self.differences: list[Difference] = []

    def result(self) -> Agreement:
        for value in self.graph.values():
            if value.const is None and value.quant is not None:
                self._activation(value, Params.of(value.quant))
        for node in self.graph.nodes:
            for place, value in enumerate(node.inputs):
                if value.const is not None and value.quant is not None:
                    self._constant(node, place, value)
        self._beside()
        return Agreement(
            file=self.file,
            parameters=self.parameters.result(),
            weights=self.weights.result(),
            biases=self.biases.result(),
            biases_as=" and ".join(sorted(self.biases_as)) or "int32",
            added=self.added,
            absent=self.absent,
            differences=tuple(self.differences),
        )

    # --- values of the graph ------------------------------------------------------------------------------------------
    def _activation(self, value: Value, expected: Params) -> None:
        held = self.stored.params.get(value.name, frozenset())
        if not held and value.name in self.stored.absent:
            self.absent[value.name] = self.stored.absent[value.name]
            return
        self.parameters.add(1, int(held == {expected}))
        if held != {expected}:
            self._differ(value.name, str(expected), _stated(held))

    def _constant(self, node: Node, place: int, value: Value) -> None:
        """A weight, a bias or another constant operand of a node; of one that several nodes read, each use."""
        assert value.const is not None
        assert value.quant is not None
        tally = self.biases if node.op.data_inputs == 1 and place == BIAS else self.weights
        owner = node.outputs[0].name
        held, where = self.stored.constants.get((owner, place)), f"{value.name} of {owner}"
        expected, params = value.const.numpy(), Params.of(value.quant)
        if held is None:
            tally.add(expected.size, 0)
            self._differ(where, f"{params.dtype} {list(expected.shape)}", "no such constant")
            return
        if held.params is not None:
            same = held.params == params
            self.parameters.add(1, int(same))
            if not same:
                self._differ(where, *_apart(params, held.params))
        if held.array.dtype.kind == "f" and (tally is self.biases or not node.output.shape):
            if tally is self.biases:
                self.biases_as.add(str(held.array.dtype))
            expected = nearest_reals(expected, value.quant, held.array.dtype)
        array = self._without_added(node, place, held.array, expected) if held.array.dtype == expected.dtype else None
        if array is None:
            tally.add(expected.size, 0)
            self._differ(where, _described(expected), _described(held.array))
            return
        wrong = array != expected
        tally.add(expected.size, expected.size - int(wrong.sum()))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.ndim else ()
            count = f"{int(wrong.sum())} of {expected.size} differ, first at {list(at)}: "
            self._differ(where, f"{expected[at]}", f"{count}{array[at]}")

    def _without_added(self, node: Node, place: int, array: np.ndarray, expected: np.ndarray) -> np.ndarray | None:
        """The array in the graph's shape; None where it has another, or something but zeros between its groups."""
        if _core(array.shape) == _core(expected.shape):
            return array.reshape(expected.shape)
        if node.op.name != "conv2d" or place != 1 or array.ndim != 4:
            return None
        own = own_groups(array, expected.shape, node.attrs["groups"])
        if own is None or np.count_nonzero(own) != np.count_nonzero(array):
            return None
        self.added += array.size - own.size
        return own

    # --- what only the file has ---------------------------------------------------------------------------------------
    def _beside(self) -> None:
        """Constants and tensors that the format needs in addition, each checked to change nothing."""
        nodes = {node.outputs[0].name: node for node in self.graph.nodes}
        values = {v.name: v for v in self.graph.values() if v.const is None}
        for (name, place), held in self.stored.constants.items():
            node = nodes.get(name)
            if node is not None and place < len(node.inputs) and node.inputs[place].const is not None:
                continue
            if node is not None and node.op.name in ADDED and ADDED[node.op.name](node, place, held):
                self.added += held.array.size
            else:
                self._differ(f"operand {place} of {name or '(nothing)'}", "no such constant", _described(held.array))
        for name, stated in self.stored.params.items():
            if name not in values or values[name].quant is None:
                self._differ(name or "(nothing)", "no such codes", _stated(stated))
        for name, stated in self.stored.between.items():
            if not stated <= (known := _on_the_way(nodes[name]) if name in nodes else set()):
                self._differ(f"a tensor on the way to {name or '(nothing)'}", _stated(known), _stated(stated - known))

    def _differ(self, value: str, graph: str, file: str) -> None:
        self.differences.append(Difference(value=value, graph=graph, file=file))


def nearest_reals(codes: np.ndarray, quant: QuantParams, dtype: np.dtype) -> np.ndarray:
    """What stands for codes in a format that has no integers there: the products with the scale, which float64 holds
    exactly, rounded once.
    """
    scale = np.array(quant.scale).reshape([-1 if d == quant.axis else 1 for d in range(codes.ndim)])
    return ((codes.astype(np.float64) - quant.zero_point) * scale).astype(dtype)


def own_groups(array: np.ndarray, shape: tuple[int, ...], groups: int) -> np.ndarray | None:
    """Of a weight [O,n·I/g,kh,kw] whose groups are joined n by n, what the graph's [O,I/g,kh,kw] holds; None where
    the two cannot belong together.
    """
    outputs, inputs, *kernel = shape
    join = array.shape[1] // inputs
    if not join or array.shape != (outputs, join * inputs, *kernel) or groups % join:
        return None
    blocks = array.reshape(groups // join, join, outputs // groups, join, inputs, *kernel)
    return np.einsum("gjojcyx->gjocyx", blocks).reshape(shape)


# --- what formats add -------------------------------------------------------------------------------------------------
def _copies_channels(node: Node, place: int, held: Constant) -> bool:
    """A convolution by zeros and ones at scale 1, bias 0: codes come out as they went in."""
    assert node.output.quant is not None
    scale = (1.0 if place == 1 else node.output.quant.scale[0],)
    if held.params is None or set(held.params.scale) != set(scale) or any(held.params.zero_point):
        return False
    if place == BIAS:
        return not held.array.any()
    matrix = held.array.reshape(len(held.array), -1)
    return place == 1 and bool(((matrix == 0) | (matrix == 1)).all() and (matrix.sum(1) == 1).all())


def _fills(node: Node, place: int, held: Constant) -> bool:
    """The value around a padded tensor, as a code."""
    quant = node.inputs[0].quant
    assert quant is not None
    fill = quant.quantize(torch.tensor([node.attrs["value"]])).numpy()
    return held.params == Params.of(quant) and held.array.tolist() == fill.tolist()


def _never_wins(node: Node, place: int, held: Constant) -> bool:
    """The value around a tensor whose maximum is taken: the lowest code."""
    quant = node.inputs[0].quant
    assert quant is not None
    return held.params == Params.of(quant) and held.array.tolist() == [quant.limits[0]]


ADDED: dict[str, Callable[[Node, int, Constant], bool]] = {
    "gather_channels": _copies_channels,
    "pad": _fills,
    "max_pool2d": _never_wins,
}
"""Op -> whether a constant that the graph does not have changes nothing."""


def _on_the_way(node: Node) -> set[Params]:
    """Parameters that tensors within a node may have: its operands', its result's, and those that clamp."""
    known = {Params.of(v.quant) for v in (*node.inputs, *node.outputs) if v.quant is not None}
    quant = node.outputs[0].quant
    if quant is not None and node.op.name in ("relu", "relu6", "clamp"):
        low, high = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0)}.get(node.op.name) or (
            node.attrs["low"],
            node.attrs["high"],
        )
        known |= {Params.of(step) for step in saturating_steps(quant, low, high)}
    return known


# --- words ------------------------------------------------------------------------------------------------------------
def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without leading ones."""
    return shape if not shape or shape[0] != 1 else _core(shape[1:])


def _stated(held: Iterable[Params]) -> str:
    return ", ".join(sorted(map(str, held))) or "nothing"


def _apart(expected: Params, held: Params) -> tuple[str, str]:
    """The first scale or zero point that differs, of parameters per channel."""
    if len(expected.scale) == len(held.scale) and (expected.dtype, expected.axis) == (held.dtype, held.axis):
        pairs = [list(zip(p.scale, p.zero_point, strict=False)) for p in (expected, held)]
        at = next((i for i, (a, b) in enumerate(zip(*pairs, strict=False)) if a != b), None)
        if at is not None and len(expected.scale) > 1:
            ours, theirs = (f"scale {p[at][0]:.9g} zero point {p[at][1]} of channel {at}" for p in pairs)
            return ours, theirs
    return str(expected), str(held)


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}, {np.count_nonzero(array)} of them not 0"
