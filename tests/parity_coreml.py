"""Core ML's part of the parity helper: the saved package on the reference executor (not Core ML), and in coremltools.

Float: the FLOAT32 program against eager PyTorch, and the FLOAT16 one with every result rounded. int8: teacher-forced,
every `quantize` on the interpreter's operands, in the FLOAT32 twin and in FLOAT16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from coreml_files import load, written
from torch import Tensor

from exporter.errors import UsageError
from exporter.ir.graph import Graph, Node
from exporter.ir.run import Interpreter
from exporter.lower.coreml import CoreML
from exporter.lower.coreml.detector import detection_node
from exporter.lower.coreml.names import names
from exporter.verify.agreement import agree
from exporter.verify.runtimes.mil_reference import MilReference

FLOAT32_SNR, FLOAT16_SNR = 115.0, 50.0
"""dB against PyTorch: about the noise of each arithmetic over a few ops."""


def run_coreml(graph: Graph, inputs: Sequence[Tensor], arithmetic: str = "float32") -> list[Tensor]:
    """The float graph as a Core ML package, in which coremltools infers the same types, on the reference executor."""
    with written(graph, arithmetic) as path:
        load(path)
        found = MilReference(path).run([x.numpy() for x in inputs])
    assert set(found) == set(graph.output_names)
    return [torch.from_numpy(found[name]) for name in graph.output_names]


def check_coreml(
    graph: Graph, inputs: Sequence[Tensor], expected: Sequence[Tensor], halved: Sequence[Tensor], least: float
) -> None:
    """Both float programs against PyTorch: `expected` from the inputs, `halved` from the inputs as float16 holds them.

    A detector is a pipeline with other outputs: tests/lower/coreml has its own.
    """
    if detection_node(graph) or refused(graph):
        return
    worst = min(map(snr, run_coreml(graph, inputs), expected))
    assert worst >= min(least, FLOAT32_SNR), f"SNR {worst:.1f} dB in Core ML"
    for result, *references in zip(run_coreml(graph, inputs, "float16"), expected, halved, strict=True):
        best = max(snr(result, reference) for reference in references)
        assert best >= min(least, _float16_snr(len(graph.nodes))), f"SNR {best:.1f} dB in Core ML float16"


def _float16_snr(ops: int) -> float:
    """What the roundings of so many ops may leave: they are independent, so their noise adds up. 50 dB up to ten."""
    return FLOAT16_SNR - 10 * math.log10(max(ops / 10, 1))


def refused(graph: Graph) -> bool:
    """Whether the graph has a border that Core ML has not: a single number without a dimension."""
    if all(v.shape for v in [*graph.inputs, *graph.outputs]):
        return False
    with pytest.raises(UsageError, match=r"without a dimension|--io float"):
        CoreML().unsupported(graph)
    return True


def snr(result: Tensor, expected: Tensor) -> float:
    """Signal to noise in dB; infinite where equal."""
    assert result.shape == expected.shape, f"{list(result.shape)}, expected {list(expected.shape)}"
    noise = float((result.double() - expected.double()).square().sum())
    signal = float(expected.double().square().sum())
    return math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal else -math.inf


def check_coreml_codes(graph: Graph, operands: Sequence[Tensor]) -> None:
    """Every op of an int8 graph on the interpreter's operands, for iOS 17 and 18.

    In float32 a code is the interpreter's, or the exact result's (XNNPACK, whom the interpreter follows, has roundings
    of its own in leaky ReLU, square root and resize) to 1/1000 of a step, the noise of float32 sums around a tie.
    """
    if detection_node(graph) or refused(graph):
        return
    codes: dict[str, Tensor] = {}
    Interpreter(graph).run(operands, tap=lambda v, x: codes.update({v.name: x.contiguous()}))
    reals = [v.quant.dequantize(x) if v.quant else x for v, x in zip(graph.inputs, operands, strict=True)]
    for node, theirs in _forced(graph, reals, codes, "float32", 17):
        assert_exact(node, codes, theirs)
    for node, theirs in _forced(graph, reals, codes, "float16", 18):
        apart = int((codes[node.output.name].int() - theirs.int()).abs().max())
        assert apart <= 1, f"{node.op.name} in float16 is {apart} LSB from the interpreter"


def assert_exact(node: Node, codes: dict[str, Tensor], theirs: Tensor) -> None:
    """`theirs` are the interpreter's codes, or nearest to the result in float64."""
    apart = (codes[node.output.name].int() - theirs.int()).abs()
    if apart.any():
        apart = torch.where((steps(node, codes) - theirs).abs() <= 0.501, 0, apart)
    assert not apart.any(), f"{node.op.name} in float32 is {int(apart.max())} LSB from the interpreter"


@torch.no_grad()
def steps(node: Node, codes: dict[str, Tensor]) -> Tensor:
    """The op in float64 on the real values of its operands, in steps of the result's scale, within the limits."""
    operands = (v.const if v.const is not None else codes[v.name] for v in node.inputs)
    reals = [v.quant.dequantize(x) if v.quant else x for v, x in zip(node.inputs, operands, strict=True)]
    params = node.output.quant
    assert params is not None
    result = node.op.run(*(x.double() for x in reals), **node.attrs)
    return (result / params.scale[0] + params.zero_point).clamp(*params.limits)


def _forced(
    graph: Graph, reals: Sequence[Tensor], codes: dict[str, Tensor], arithmetic: str, min_os: int
) -> Iterator[tuple[Node, Tensor]]:
    """Every quantised node with the codes that the file computes for it, on the interpreter's operands."""
    called, nodes = names(graph), [n for n in graph.nodes if n.outputs[0].quant is not None]
    given = {called[n.output.name]: codes[n.output.name].numpy() for n in nodes}
    with written(graph, "int8", min_os, arithmetic=arithmetic) as path:
        load(path)
        (row,) = agree(graph, {"coreml": path})
        assert row.agrees, row.differences
        inputs = {v.name: x.numpy() for v, x in zip(graph.inputs, reals, strict=True)}
        found = MilReference(path).run_forced(inputs, given)
    for node in nodes:
        yield node, torch.from_numpy(found[called[node.output.name]])
