"""onnxsim finds nothing to simplify in our files but what KEPT names, with the reason; onnx's strict checks pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxsim
import pytest
import torch
import torch.nn.functional as F
from parity import as_module, image, simplified
from small_detector import SIZE, SmallDetector
from torch import Tensor, nn

from exporter.build.postprocess import with_postprocess
from exporter.ir.graph import Graph
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.pipeline import Pipeline
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.recipe import load_recipe

KEPT: dict[str, Callable[[Graph], int]] = {
    # Rows, then columns: in one go onnxruntime adds in sequence, which leaves 98 dB of EfficientDet-D0 instead of 116.
    "ReduceMean": lambda graph: sum(
        len(n.attrs["dims"]) - 1 for n in graph.nodes if n.op.name == "mean" and n.output.quant is None
    ),
    # Codes that a border turns to floats and an integer op reads too: each has a pair of its own, as kernels want them.
    "DequantizeLinear": lambda graph: sum(
        {"dequantize"} < {reader.op.name for reader in v.uses} for n in graph.nodes for v in n.outputs
    ),
}
"""Operators that onnxsim drops, and how many of them a graph has."""


class Classifier(nn.Module):
    """Convolutions, gates, residuals, pools: a small EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.norm, self.squeeze, self.excite = nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.stem(x)))
        z = F.silu(self.deep(y))
        z = z * self.excite(F.silu(self.squeeze(z.mean((2, 3), keepdim=True)))).sigmoid()
        return self.head(F.max_pool2d(y + z, 3, 2, 1).mean((2, 3)))


class Pyramid(nn.Module):
    """Two scales joined both ways, shuffled, cut, resized: what Lite-HRNet and CSPNets are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.back = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = F.leaky_relu(self.fine(x), 0.1)
        coarse = self.coarse(fine).relu()
        joined = fine + F.interpolate(self.back(coarse), scale_factor=2, mode="nearest")
        left, right = joined.chunk(2, 1)
        mixed = torch.cat([left, F.gelu(right)], 1).reshape(1, 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        up = F.interpolate(coarse, (20, 20), mode="bilinear", align_corners=True)
        return {"mixed": mixed[:, :, 1:, :-1].relu(), "up": up.tanh(), "soft": F.softmax(coarse, 1)}


class Detector(SmallDetector):
    """Its finished detections."""

    def __new__(cls) -> nn.Module:  # type: ignore[misc]
        settings = {"score_threshold": 0.05, "iou_threshold": 0.5, "max_detections": 10, "per_class": True}
        return with_postprocess(SmallDetector().eval(), "nms", **settings)


class Tokens(nn.Module):
    """One block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.block = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.out = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.out(self.block(y, y, y, need_weights=False)[0])


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "classifier": (Classifier, (1, 3, 24, 24)),
    "pyramid": (Pyramid, (1, 3, 16, 16)),
    "detector": (Detector, (1, 3, SIZE, SIZE)),
    "an input and a value twice": (lambda: as_module(lambda x: (x, x.relu(), x.relu(), x.relu() * 2)), (1, 3, 4, 4)),
}


def graphs(name: str) -> tuple[Graph, Graph]:
    """The float graph and the int8 one."""
    make, shape = NETS[name]
    torch.manual_seed(3)
    x = image(*shape)
    graph = simplified(make().eval(), x)
    integer = graph.clone()
    quantize(integer, calibrate(graph, [(x,)], "minmax"))
    return graph, integer


def simplified_by_onnxsim(graph: Graph, precision: str, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Operators that onnxsim drops from the graph's file, and adds. The file passes onnx's strict checks first."""
    ONNX().write(graph, folder / "net.onnx", Facts("net", precision))
    model = onnx.load(folder / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    simpler, same = onnxsim.simplify(model)
    assert same
    before, after = (Counter(node.op_type for node in m.graph.node) for m in (model, simpler))
    return before - after, after - before


def kept(graph: Graph) -> Counter[str]:
    """What onnxsim may drop from the file of this graph: all of KEPT, no more."""
    return +Counter({kind: count(graph) for kind, count in KEPT.items()})


@pytest.mark.parametrize("name", NETS)
def test_float32(name: str, tmp_path: Path) -> None:
    graph, _ = graphs(name)
    assert simplified_by_onnxsim(graph, "float32", tmp_path) == (kept(graph), Counter())


@pytest.mark.parametrize("name", NETS)
def test_int8(name: str, tmp_path: Path) -> None:
    _, graph = graphs(name)
    assert simplified_by_onnxsim(graph, "int8", tmp_path) == (kept(graph), Counter())


@pytest.mark.parametrize("name", NETS)
def test_float16_weights_stay_behind_casts(name: str, tmp_path: Path) -> None:
    """onnxsim folds them: the file would be as large as one of float32."""
    graph, _ = graphs(name)
    dropped, added = simplified_by_onnxsim(graph, "float16", tmp_path)
    halves = {id(v) for n in graph.nodes for v in n.inputs if v.const is not None and v.const.dim()}
    assert dropped.pop("Cast", 0) <= len(halves)
    assert (dropped, added) == (kept(graph), Counter())


def test_a_transformer_keeps_its_products_apart(tmp_path: Path) -> None:
    """onnxsim joins those for queries, keys and values, whose int8 ranges differ, into one and a Split."""
    x = image(1, 6, 16)
    graph = simplified(Tokens().eval(), x)
    dropped, added = simplified_by_onnxsim(graph, "float32", tmp_path)
    assert dropped == {"MatMul": 3, "Add": 4}
    assert added == {"Gemm": 1, "Split": 1}
    integer = graph.clone()
    quantize(integer, calibrate(graph, [(x,)], "minmax"))
    assert simplified_by_onnxsim(integer, "int8", tmp_path) == (kept(integer), Counter())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientdet_d0", "fasternet_t0", "litehrnet_18_coco", "cspresnext50"])
def test_whole_models(name: str, tmp_path: Path) -> None:
    pipeline = Pipeline(
        load_recipe(name, weights="random", precision="int8", targets=("onnx",), calibration={"limit": 2})
    )
    for stage in ("build", "capture", "simplify", "quantize"):
        getattr(pipeline, stage)()
    for graph, precision in ((pipeline.graph, "float32"), (pipeline.lowered, "int8")):
        assert simplified_by_onnxsim(graph, precision, tmp_path) == (kept(graph), Counter())
