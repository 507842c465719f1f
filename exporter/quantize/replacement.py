"""Ops that take the place of one node before calibration, which sees their values like any others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from exporter.ir.graph import Graph, Node, Value

Ranges = dict[str, tuple[float, float]]
"""Value name -> smallest and largest real value that its codes must hold."""


@dataclass(frozen=True)
class Replacement:
    """Emits ahead of `node`. `forced` receives the ranges that calibration in float cannot know."""

    graph: Graph
    node: Node
    forced: Ranges

    def emit(self, op: str, *inputs: Value, within: tuple[float, float] | None = None, **attrs: object) -> Value:
        """One op; `within` is the range of its result, where errors of int8 decide it."""
        if op in ("add", "sub", "mul"):
            attrs["activation"] = "none"
        name = f"{self.node.output.name}/{op}"
        value = self.graph.emit(op, inputs, name=name, source=self.node.source, at=self.node, **attrs)
        if within is not None:
            self.forced[value.name] = within
        return value

    def number(self, content: float) -> Value:
        """A constant operand."""
        return self.graph.constant(f"{self.node.output.name}/const", torch.tensor(content))

    def replace(self, new: Value) -> None:
        """Let `new` take the node's place, and its name."""
        old = self.node.output
        self.graph.replace_all_uses(old, new)
        self.graph.remove(self.node)
        new.name, old.name = old.name, new.name
