"""The interpreter: one engine for calibration, int8 simulation and error localisation.

Float mode runs each op's torch meaning. Integer mode runs quantised nodes with the exact arithmetic of LiteRT's
XNNPACK kernels (`exporter.ir.integer`), including the delegate's fusion of sigmoid and mul into one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.integer import INTEGER, silu_codes

Tap = Callable[[Value, Tensor], None]


class Interpreter:
    """Runs a graph on torch tensors. Build it once, run it on many inputs.

    Intermediate tensors live only until their last reader has run. `threads` follow torch.set_num_threads.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._constants = {id(v): _fast_layout(v.const) for v in graph.values() if v.const is not None}
        self._last_reader: dict[int, Node] = {id(v): node for node in graph.nodes for v in node.inputs}
        self._kept = set(map(id, graph.outputs))
        self._silu = {node for node in graph.nodes if is_fused_silu(node)}

    @torch.no_grad()
    def run(
        self, inputs: Sequence[Tensor], tap: Tap | None = None, forced: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        """Outputs in the graph's order. `inputs` are float32, or codes where an input is quantised.

        `tap(value, tensor)` sees the inputs and every node output as it is made (codes where quantised) and may
        not change it. Readers of a value in `forced`, by name, get that tensor; `tap` sees what was computed.
        Tensors are channels-last in memory; their shape is NCHW.
        """
        env: dict[int, Tensor] = {}
        for value, tensor in zip(self.graph.inputs, inputs, strict=True):
            if tuple(tensor.shape) != value.shape:
                raise ValueError(f"input {value.name} is {list(value.shape)}, got {list(tensor.shape)}")
            env[id(value)] = _fast_layout(tensor)
            if tap:
                tap(value, tensor)
        for node in self.graph.nodes:
            results = self.step(node, [self._read(v, env) for v in node.inputs])
            for value, result in zip(node.outputs, results, strict=True):
                env[id(value)] = forced.get(value.name, result) if forced else result
                if tap:
                    tap(value, result)
            for value in set(node.inputs):
                if self._last_reader.get(id(value)) is node and id(value) not in self._kept:
                    env.pop(id(value), None)
            for value in node.outputs:
                if not value.uses and id(value) not in self._kept:
                    del env[id(value)]
        return [self._read(v, env) for v in self.graph.outputs]

    def _read(self, value: Value, env: dict[int, Tensor]) -> Tensor:
        return self._constants[id(value)] if value.const is not None else env[id(value)]

    def step(self, node: Node, operands: list[Tensor]) -> tuple[Tensor, ...]:
        """One node of the graph on its operands, as `run` runs it."""
        if node in self._silu:
            x, sigmoid = node.inputs
            assert x.quant is not None
            assert sigmoid.quant is not None
            assert node.output.quant is not None
            return (silu_codes(operands[0], x.quant, sigmoid.quant, node.output.quant),)
        return step(node, operands)


def step(node: Node, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run one node on its operands, all outputs: codes in and out where quantised, float32 elsewhere."""
    out = node.outputs[0].quant
    if node.op.name == "dequantize":
        quant = node.inputs[0].quant
        assert quant is not None
        return (quant.dequantize(operands[0]),)
    if out is None:
        result = node.op.run(*operands, **node.attrs)
        return result if isinstance(result, tuple) else (result,)
    return (INTEGER[node.op.name](list(operands), [v.quant for v in node.inputs], out, **node.attrs),)


def is_fused_silu(node: Node) -> bool:
    """Whether XNNPACK turns this quantised mul into one lookup table together with the sigmoid of its operand."""
    if node.op.name != "mul" or node.output.quant is None or node.attrs["activation"] != "none":
        return False
    producer = node.inputs[1].producer
    return producer is not None and producer.op.name == "sigmoid" and producer.inputs[0] is node.inputs[0]


def _fast_layout(x: Tensor) -> Tensor:
    """4-D tensors channels-last: torch's CPU convolutions and poolings are fastest there."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
