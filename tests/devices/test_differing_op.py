"""The operator at which an ARM core begins to compute otherwise is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parity import image, simplified, write
from torch import Tensor, nn

from exporter.ir.quant import QuantParams
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.verify.devices import device
from exporter.verify.differing_op import differing_ops


class Gated(nn.Module):
    """The last step of a squeeze-and-excite."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


X, GATE, Y = QuantParams((49 / 2**10,), -122), QuantParams((2.0**-8,), -128), QuantParams((1729 / 2**16,), -122)
"""Of EfficientDet-D0's first block: the product's scale is 7/988, so that 494 times it is a tie."""


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A file of int8, and every code times each of 16 others."""
    inputs = (image(1, 16, 16, 16), image(1, 16, 1, 1).sigmoid())
    graph = simplified(Gated(), *inputs)
    quantize(graph, calibrate(graph, [inputs], "minmax"), io="int8")
    for value, params in zip((*graph.inputs, *graph.outputs), (X, GATE, Y), strict=True):
        value.quant = params
    path = tmp_path_factory.mktemp("gated") / "gated.tflite"
    write(graph, path, "int8")
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1).repeat(16, 3)
    gates = np.arange(-128, 128, 17, dtype=np.int8)[:16].reshape(1, 1, 1, 16)
    return path, dict(zip((value.name for value in graph.inputs), (codes, gates), strict=True))


def test_here_nothing_differs(gated):
    assert differing_ops(gated[0], device("local"), gated[1]) == ()


@pytest.mark.slow
@pytest.mark.usefixtures("arm64")
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
def test_xnnpacks_product_rounds_ties_otherwise_on_arm(gated, core):
    """On x86 the product in float32 lies on the tie and goes to the even code; on ARM it is a fixed-point number with
    the scale's own error. Where that changes, docs/ci.md has to.
    """
    (said,) = differing_ops(gated[0], device(f"arm64:{core}"), gated[1])
    assert said.startswith("MUL ")
    assert ": 1 LSB in 0." in said
    assert said.endswith(" % of its codes, operands equal")
