"""Small networks as .tflite files, float32 and int8, by the exporter itself."""

from __future__ import annotations

from pathlib import Path

import torch
from parity import image, simplified, write
from torch import nn

from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

SIDE = 16


def network() -> nn.Module:
    """A convolution of each kind, a sum, a mean and a linear layer; seeded weights."""
    torch.manual_seed(0)
    return _Network().eval()


def float_network(folder: Path) -> Path:
    """[1, 16, 16, 8] float32 `x` -> [1, 10] float32 `y`."""
    graph = simplified(network(), image(1, 8, SIDE, SIDE))
    graph.output_names = ["y"]
    write(graph, folder / "float.tflite")
    return folder / "float.tflite"


def int8_network(folder: Path) -> Path:
    """The same in int8, inputs and outputs too."""
    x = image(1, 8, SIDE, SIDE)
    graph = simplified(network(), x)
    graph.output_names = ["y"]
    quantize(graph, calibrate(graph, [[x]], "minmax"), io="int8")
    write(graph, folder / "int8.tflite", "int8")
    return folder / "int8.tflite"


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 24, 1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.narrow = nn.Conv2d(24, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.narrow(torch.relu(self.depthwise(torch.relu(self.wide(x))))) + x
        return self.head(y.mean((2, 3)))


def int8_convolution(folder: Path, side: int) -> Path:
    """One 1 x 1 convolution, 16 channels to 16: [1, side, side, 16] int8."""
    torch.manual_seed(0)
    x = image(1, 16, side, side)
    graph = simplified(nn.Conv2d(16, 16, 1).eval(), x)
    quantize(graph, calibrate(graph, [[x]], "minmax"), io="int8")
    write(graph, folder / f"convolution{side}.tflite", "int8")
    return folder / f"convolution{side}.tflite"


def int8_gates(folder: Path) -> Path:
    """What XNNPACK fuses, and what it does not: a padded convolution, a SiLU, and a gate: a product with a sigmoid."""
    torch.manual_seed(0)
    x = image(1, 8, SIDE, SIDE)
    graph = simplified(_Gates().eval(), x)
    quantize(graph, calibrate(graph, [[x]], "minmax"), io="int8")
    write(graph, folder / "gates.tflite", "int8")
    return folder / "gates.tflite"


def int8_product(folder: Path) -> Path:
    """`a` times `b`, [1, 256, 256, 1] int8 each; a code of the result is a product of codes / 128."""
    graph = Graph("product")
    a, b = (graph.add_input(name, (1, 1, 256, 256)) for name in "ab")
    y = graph.emit("mul", [a, b], activation="none")
    for value, scale in ((a, 0.5), (b, 1.0), (y, 64.0)):
        value.quant = QuantParams((scale,))
    graph.set_outputs({"y": y})
    write(graph, folder / "product.tflite", "int8")
    return folder / "product.tflite"


class _Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(8, 16, 3, stride=2)
        self.gate = nn.Conv2d(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.silu(self.strided(nn.functional.pad(x, (0, 1, 0, 1))))
        return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
