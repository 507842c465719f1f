"""The executor as a whole: converted networks, teacher forcing, pictures, pipelines, and files that are broken."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import ct, mb, opened, program, save, silent
from torch import Tensor, nn
from torch.nn import functional as F

from exporter.errors import DataError, RuntimeUnavailable, UnsupportedError, UsageError
from exporter.verify.runtimes.mil_reference import NAME, MilReference

R = np.random.default_rng(11)
MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"


class Net(nn.Module):
    """Something of what CNNs are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 12, 1), nn.GELU())
        self.up = nn.ConvTranspose2d(12, 8, 2, 2)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.stem(x)
        b = F.max_pool2d(F.pad(self.deep(a), (0, 1, 0, 1)), 3, 2)
        c = F.interpolate(b, scale_factor=2, mode="nearest") + F.interpolate(b, scale_factor=2, mode="bilinear")
        d = torch.cat([a, F.leaky_relu(c[:, :4], 0.1), F.hardswish(c[:, 4:])], 1)
        e = self.up(d[:, 2:14] * torch.sigmoid(d.mean((2, 3), keepdim=True))[:, 2:14])
        tokens = self.norm(F.avg_pool2d(e, 4).flatten(2).transpose(1, 2))
        return torch.softmax(self.head(tokens), -1), e.clamp(-1, 1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(1)
    return Net().eval()


def converted(net: nn.Module, folder: Path, opset: str, precision: str) -> Path:
    """By ct.convert with all of its passes."""
    with silent(), torch.no_grad():
        model = ct.convert(
            torch.jit.trace(net, torch.zeros(1, 3, 32, 32)),
            inputs=[ct.TensorType("x", (1, 3, 32, 32))],
            minimum_deployment_target=getattr(ct.target, opset),
            compute_precision=getattr(ct.precision, precision.upper()),
            skip_model_load=True,
        )
        model.save(str(folder / "net.mlpackage"))
    return folder / "net.mlpackage"


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("opset", ["iOS15", "iOS16", "iOS17", "iOS18"])
def test_a_converted_network_is_the_network(opset: str, precision: str, net: nn.Module, tmp_path: Path) -> None:
    model = MilReference(converted(net, tmp_path, opset, precision))
    x = torch.from_numpy(R.uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32))
    with torch.no_grad():
        expected = net(x)
    results = model.run([x.numpy().astype(model.inputs[0].dtype)])
    kinds = {kind.dtype for step in model.program.steps for kind in step.types}
    assert ("float16" in kinds) == (precision == "float16")
    for info, want in zip(model.outputs, expected, strict=True):
        tolerance = 2e-6 if precision == "float32" else 4e-3
        np.testing.assert_allclose(results[info.name], want.numpy(), atol=tolerance)


def test_weights_of_8_bits(net: nn.Module, tmp_path: Path) -> None:
    """coremltools' own compression: constexpr ops of iOS 16 whose operands are in the op's attributes."""
    path = converted(net, tmp_path, "iOS16", "float32")
    import coremltools.optimize.coreml as cto

    with silent():
        model = ct.models.MLModel(str(path), skip_model_load=True)
        config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=16))
        cto.linear_quantize_weights(model, config).save(str(tmp_path / "small.mlpackage"))
    x = R.uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    small, full = MilReference(tmp_path / "small.mlpackage"), MilReference(path)
    assert b"constexpr_affine_dequantize" in (tmp_path / "small.mlpackage" / MODEL).read_bytes()
    for info in full.outputs:
        a, b = small.run([x])[info.name], full.run([x])[info.name]
        assert 0 < np.abs(a - b).max() < 0.1


def test_teacher_forcing_in_one_pass() -> None:
    """Each forced value is what its op makes of the forced values before it; the outputs follow from the last."""

    def build(x: Any) -> Any:
        y = mb.mul(x=x, y=np.float32(2), name="y")
        z = mb.add(x=y, y=np.float32(1), name="z")
        return mb.square(x=z)

    model, x = opened(build, [np.ones(3, np.float32)]), np.ones(3, np.float32)
    out = model.outputs[0].name
    given = {"y": np.full(3, 10, np.float32), "z": np.full(3, 5, np.float32)}
    found = model.run_forced({"in0": x}, given)
    assert [found[name].tolist() for name in ("y", "z", out)] == [[2.0] * 3, [11.0] * 3, [25.0] * 3]
    assert model.run([x])[out].tolist() == [9.0] * 3


def test_a_run_may_start_in_the_middle() -> None:
    def build(x: Any) -> Any:
        return mb.square(x=mb.mul(x=x, y=np.float32(2), name="y"))

    x = np.ones(3, np.float32)
    model = opened(build, [x])
    out = model.outputs[0].name
    assert model.run({"y": 3 * x})[out].tolist() == [9.0] * 3
    assert set(model.run_forced({}, {"y": 3 * x})) == {out}
    with pytest.raises(UsageError, match="cannot be computed"):
        model.run_forced({}, {})
    with pytest.raises(UsageError, match="no value elsewhere"):
        model.run_forced({"in0": x}, {"elsewhere": x})
    with pytest.raises(UsageError, match=r"y is \[2\], must be \[3\]"):
        model.run_forced({"in0": x}, {"y": x[:2]})


def test_starts_replace_inputs(tmp_path: Path) -> None:
    built = program(lambda x: mb.square(x=mb.mul(x=x, y=np.float32(2), name="y")), [np.ones(3, np.float32)])
    model = MilReference(save(built, tmp_path / "m.mlpackage"), starts={"in0": "y"})
    assert [(i.name, i.shape, i.dtype) for i in model.inputs] == [("y", (3,), "float32")]
    assert model.run([np.full(3, 3, np.float32)])[model.outputs[0].name].tolist() == [9.0] * 3


def test_wrong_arrays_are_usage_errors() -> None:
    model = opened(lambda x: mb.relu(x=x), [np.ones(3, np.float32)])
    for wrong in (np.ones(4, np.float32), np.ones(3, np.float64)):
        with pytest.raises(UsageError, match="do not fit"):
            model.run([wrong])


def test_values_are_freed_after_their_last_reader() -> None:
    def build(x: Any) -> Any:
        for _ in range(20):
            x = mb.add(x=x, y=np.float32(1))
        return x

    model = opened(build, [np.ones(3, np.float32)])
    plan = model.program._plan(frozenset({"in0"}), frozenset())
    alive, most = {"in0"}, 0
    for step, last in plan.steps:
        alive |= set(step.outputs)
        most = max(most, len(alive))
        alive -= set(last)
    assert most == 2
    assert alive == {model.outputs[0].name}


def test_it_has_no_latency() -> None:
    model = opened(lambda x: mb.relu(x=x), [np.ones(3, np.float32)])
    assert model.runtime == NAME == "reference executor (not Core ML)"
    with pytest.raises(RuntimeUnavailable, match="no latency"):
        model.latency([np.ones(3, np.float32)])


@pytest.mark.parametrize("layout", ["RGB", "BGR", "GRAYSCALE"])
def test_pictures(layout: str, tmp_path: Path) -> None:
    colours = 1 if layout == "GRAYSCALE" else 3

    @mb.program(input_specs=[mb.TensorSpec((1, colours, 4, 5))], opset_version=ct.target.iOS16)
    def built(image: Any) -> Any:
        return mb.mul(x=image, y=np.float32(2))

    with silent():
        ct.convert(
            built, source="milinternal", minimum_deployment_target=ct.target.iOS16, skip_model_load=True,
            inputs=[ct.ImageType("image", (1, colours, 4, 5), color_layout=getattr(ct.colorlayout, layout))],
            compute_precision=ct.precision.FLOAT32,
        ).save(str(tmp_path / "m.mlpackage"))  # fmt: skip
    model = MilReference(tmp_path / "m.mlpackage")
    shape = (4, 5) if layout == "GRAYSCALE" else (4, 5, 3)
    assert [(i.shape, i.dtype) for i in model.inputs] == [(shape, "uint8")]
    picture = R.integers(0, 256, shape, np.uint8)
    planes = picture.reshape(4, 5, colours)[..., :: -1 if layout == "BGR" else 1].transpose(2, 0, 1)[None]
    assert np.array_equal(model.run([picture])[model.outputs[0].name], planes * np.float32(2))


def test_a_classifier(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 3))], opset_version=ct.target.iOS15)
    def built(x: Any) -> Any:
        return mb.softmax(x=x, name="p")

    with silent():
        ct.convert(
            built, source="milinternal", minimum_deployment_target=ct.target.iOS15, skip_model_load=True,
            classifier_config=ct.ClassifierConfig(["cat", "dog", "owl"]), compute_precision=ct.precision.FLOAT32,
        ).save(str(tmp_path / "m.mlpackage"))  # fmt: skip
    model = MilReference(tmp_path / "m.mlpackage")
    x = np.array([[0.5, 2, -1]], np.float32)
    results = model.run([x])
    label, probabilities = (info.name for info in model.outputs[:2])
    assert results[label] == "dog"
    np.testing.assert_allclose(results[probabilities], np.exp(x[0]) / np.exp(x).sum(), rtol=1e-6)


# --- suppression ------------------------------------------------------------------------------------------------------
def pipeline(folder: Path, *, per_class: bool = True, rows: tuple[int, int] | None = None) -> MilReference:
    """A program that passes boxes on, and a nonMaximumSuppression behind it."""

    @mb.program(input_specs=[mb.TensorSpec((5, 2)), mb.TensorSpec((5, 4))], opset_version=ct.target.iOS15)
    def built(scores: Any, boxes: Any) -> Any:
        return mb.identity(x=scores, name="raw_confidence"), mb.identity(x=boxes, name="raw_coordinates")

    path = save(built, folder / "m.mlpackage", "iOS15")
    from coremltools.proto import Model_pb2

    inner = Model_pb2.Model()
    inner.ParseFromString((path / MODEL).read_bytes())
    model = Model_pb2.Model(specificationVersion=6)
    suppression = Model_pb2.Model(specificationVersion=6)
    nms = suppression.nonMaximumSuppression
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = "raw_confidence", "raw_coordinates"
    nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName = "confidence", "coordinates"
    nms.iouThresholdInputFeatureName, nms.confidenceThresholdInputFeatureName = "iouThreshold", "least"
    nms.iouThreshold, nms.confidenceThreshold, nms.pickTop.perClass = 0.5, 0.25, per_class
    for name in ("confidence", "coordinates"):
        feature = suppression.description.output.add(name=name)
        feature.type.multiArrayType.dataType = 65568
        if rows:
            for low, high in (rows, (4, 4)):
                feature.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    model.description.CopyFrom(inner.description)
    del model.description.output[:]
    model.description.output.extend(suppression.description.output)
    for name in ("iouThreshold", "least"):
        feature = model.description.input.add(name=name)
        feature.type.doubleType.SetInParent()
        feature.type.isOptional = True
    model.pipeline.models.extend([inner, suppression])
    (path / MODEL).write_bytes(model.SerializeToString())
    return MilReference(path)


SCORES = np.array([[0.6, 0], [0, 0.9], [0.8, 0], [0.1, 0.2], [0.5, 0.25]], np.float32)
BOXES = np.array([[5, 5, 4, 4], [5, 5, 4, 4], [5.5, 5, 4, 4], [0, 0, 1, 1], [20, 20, 2, 2]], np.float32)
"""0, 1 and 2 overlap (7/9 at least), of two classes; 3 is below the threshold; 4 is apart."""


@pytest.mark.parametrize(
    ("options", "more", "kept"),
    [
        ({}, {}, [1, 2, 4]),
        ({"per_class": False}, {}, [1, 4]),
        ({}, {"iouThreshold": np.float64(1)}, [1, 2, 0, 4]),
        ({}, {"least": np.float64(0.1)}, [1, 2, 4, 3]),
        ({"rows": (0, 2)}, {}, [1, 2]),
        ({"rows": (4, 6)}, {}, [1, 2, 4, None]),
    ],
    ids=["per class", "across classes", "other overlap", "other threshold", "at most two", "padded to four"],
)
def test_suppression(options: Any, more: Any, kept: list[int | None], tmp_path: Path) -> None:
    model = pipeline(tmp_path, **options)
    assert [i.name for i in model.inputs] == ["scores", "boxes"]
    results = model.run({"scores": SCORES, "boxes": BOXES, **more})
    assert results["confidence"].tolist() == [[0, 0] if k is None else SCORES[k].tolist() for k in kept]
    assert results["coordinates"].tolist() == [[0] * 4 if k is None else BOXES[k].tolist() for k in kept]


# --- broken files -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weight = R.uniform(-1, 1, (8, 3, 3, 3)).astype(np.float32)
    built = program(lambda x: mb.relu(x=mb.conv(x=x, weight=weight)), [np.zeros((1, 3, 8, 8), np.float32)])
    return save(built, tmp_path_factory.mktemp("whole") / "m.mlpackage")


def change(path: Path, at: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(content)


def edit(path: Path, edit_block: Any) -> None:
    """Change the program's one block."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((path / MODEL).read_bytes())
    function = model.mlProgram.functions["main"]
    edit_block(function.block_specializations[function.opset])
    (path / MODEL).write_bytes(model.SerializeToString())


def _operation(block: Any, kind: str) -> Any:
    return next(operation for operation in block.operations if operation.type == kind)


def _blob(block: Any) -> Any:
    consts = [o.attributes["val"] for o in block.operations if o.type == "const"]
    return next(v.blobFileValue for v in consts if v.WhichOneof("value") == "blobFileValue")


BROKEN: dict[str, tuple[Any, str]] = {
    "no manifest": (lambda p: (p / "Manifest.json").unlink(), "Manifest.json"),
    "a manifest of something else": (lambda p: (p / "Manifest.json").write_text("[]"), "names no model"),
    "half a manifest": (lambda p: change(p / "Manifest.json", 0, b"#"), "names no model"),
    "no model": (lambda p: (p / MODEL).unlink(), "model.mlmodel"),
    "an empty model": (lambda p: (p / MODEL).write_bytes(b""), "holds no model"),
    "half a model": (lambda p: (p / MODEL).write_bytes((p / MODEL).read_bytes()[:-40]), "no whole Core ML spec"),
    "a foreign model": (lambda p: (p / MODEL).write_bytes(b"\x89PNG\r\n\x1a\n" * 40), "Core ML"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), "weight file"),
    "empty weights": (lambda p: (p / WEIGHTS).write_bytes(b""), "weight file"),
    "half the weights": (lambda p: (p / WEIGHTS).write_bytes((p / WEIGHTS).read_bytes()[:300]), "ends behind"),
    "weights of another version": (lambda p: change(p / WEIGHTS, 4, struct.pack("<I", 1)), "version 1"),
    "a wrong sentinel": (lambda p: change(p / WEIGHTS, 64, b"\0"), "begins with"),
    "an unknown type of record": (lambda p: change(p / WEIGHTS, 68, b"\x63"), "unknown type 99"),
    "another type of record": (lambda p: change(p / WEIGHTS, 68, b"\x0e"), "float32 in the program and int32"),
    "a record behind the end": (lambda p: change(p / WEIGHTS, 80, struct.pack("<Q", 1 << 40)), "ends behind"),
    "a short record": (lambda p: change(p / WEIGHTS, 72, struct.pack("<Q", 400)), "holds 100 values"),
    "an offset out of range": (
        lambda p: edit(p, lambda b: setattr(_blob(b), "offset", 1 << 20)),
        "no record at byte",
    ),
    "weights outside the package": (
        lambda p: edit(p, lambda b: setattr(_blob(b), "fileName", "@model_path/../../../../weight.bin")),
        "outside itself",
    ),
    "an operand that nothing computes": (
        lambda p: edit(p, lambda b: setattr(_operation(b, "relu").inputs["x"].arguments[0], "name", "nowhere")),
        "not computed before",
    ),
    "an op without its operand": (
        lambda p: edit(p, lambda b: _operation(b, "conv").inputs.pop("weight")),
        "lacks its parameter weight",
    ),
    "an output that nothing computes": (
        lambda p: edit(p, lambda b: b.outputs.append("nowhere")),
        "nothing computes its output",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_a_data_error(case: str, whole: Path, tmp_path: Path) -> None:
    damage, words = BROKEN[case]
    path = tmp_path / "m.mlpackage"
    shutil.copytree(whole, path)
    damage(path)
    with pytest.raises(DataError, match=words):
        MilReference(path)


def test_a_shape_that_the_operands_do_not_give_is_a_data_error(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    shutil.copytree(whole, path)

    def shrink(block: Any) -> None:
        _operation(block, "conv").outputs[0].type.tensorType.dimensions[1].constant.size = 7

    edit(path, shrink)
    with pytest.raises(DataError, match=r"\[1, 7, 6, 6\] in the file and \[1, 8, 6, 6\]"):
        MilReference(path).run([np.zeros((1, 3, 8, 8), np.float32)])


def test_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mlpackage").write_text("x")
    for name in ("a.mlpackage", "b.mlpackage"):
        with pytest.raises(DataError, match="there is no folder"):
            MilReference(tmp_path / name)


def test_other_models_and_ops_are_unsupported(whole: Path, tmp_path: Path) -> None:
    from coremltools.proto import Model_pb2

    path = tmp_path / "m.mlpackage"
    shutil.copytree(whole, path)
    edit(path, lambda block: setattr(_operation(block, "relu"), "type", "lstm"))
    with pytest.raises(UnsupportedError, match="no meaning for 1 ops") as refused:
        MilReference(path)
    assert refused.value.where[0].startswith("lstm  ")
    edit(path, lambda block: setattr(_operation(block, "lstm"), "type", "relu"))
    edit(path, lambda block: _operation(block, "relu").inputs["shade"].CopyFrom(_operation(block, "relu").inputs["x"]))
    with pytest.raises(UnsupportedError, match="parameter shade"):
        MilReference(path)
    model = Model_pb2.Model(specificationVersion=4)
    model.neuralNetwork.SetInParent()
    (path / MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="holds a neuralNetwork"):
        MilReference(path)


def test_the_manifest_says_where_the_model_is(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    shutil.copytree(whole, path)
    (path / "Data" / "com.apple.CoreML").rename(path / "Data" / "elsewhere")
    manifest = json.loads((path / "Manifest.json").read_text().replace("com.apple.CoreML/", "elsewhere/"))
    (path / "Manifest.json").write_text(json.dumps(manifest))
    assert MilReference(path).run([np.zeros((1, 3, 8, 8), np.float32)])
