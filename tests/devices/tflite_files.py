"""Small networks as .tflite files, float32 and int8, by the exporter itself."""

from __future__ import annotations

from pathlib import Path

import torch
from parity import image, simplified, write
from torch import nn

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
