"""`inspect` of .mlpackage folders, as coremltools writes them, and of what is none."""

import json
import shutil
import sys

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder
from coremltools.converters.mil.mil import types
from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights
from coremltools.proto import Model_pb2
from small_detector import make
from torch import nn

from exporter.build.postprocess import with_postprocess
from exporter.capture import capture
from exporter.errors import DataError, RuntimeUnavailable
from exporter.lower.coreml import CoreML
from exporter.lower.facts import Facts
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.report.inspect import inspect_file
from exporter.simplify import simplify

pytestmark = pytest.mark.filterwarnings("ignore:.*has been renamed")

MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"
KERNELS = 32 * 3 * 9 + 5 * 32


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3, stride=2), nn.Linear(32, 5)

    def forward(self, image):
        return self.head(self.stem(image).relu().mean((2, 3))).softmax(1)


def traced_by_jit(module, example):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        return torch.jit.trace(module, example)


@pytest.fixture(scope="module")
def model():
    """A classifier of pictures."""
    net = Net().eval().requires_grad_(False)
    traced = traced_by_jit(net, torch.rand(1, 3, 32, 48))
    model = ct.convert(
        traced,
        inputs=[ct.ImageType("image", shape=(1, 3, 32, 48))],
        classifier_config=ct.ClassifierConfig(list("abcde")),
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    )
    model.author, model.license, model.version, model.short_description = "someone", "MIT", "1.2", "five things"
    model.user_defined_metadata["colour"] = "red"
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "net.mlpackage"
    model.save(str(path))
    return path


def test_classifier(saved):
    found = inspect_file(saved)
    assert (found.format, found.description, found.author, found.licence, found.version) == (
        "Core ML",
        "five things",
        "someone",
        "MIT",
        "1.2",
    )
    assert found.needs == "iOS 16 or newer, specification 7"
    assert [(t.name, t.shape, t.dtype, t.labels) for t in (*found.inputs, *found.outputs)] == [
        ("image", (32, 48), "RGB picture", 0),
        ("classLabel", (), "string", 0),
        ("classLabel_probs", (), "dictionary", 5),
    ]
    assert found.weights == {"float16": KERNELS}
    assert found.sizes.weights == 2 * KERNELS
    assert found.sizes.total == sum(file.stat().st_size for file in saved.rglob("*") if file.is_file())
    kinds = {kind.op: (kind.count, kind.floats) for kind in found.ops}
    assert kinds["conv"] == kinds["classify"] == (1, 1)
    assert "const" not in kinds
    assert (found.integer_ops, found.border_ops) == (0, 0)
    assert "colour" in found.metadata
    assert (found.details["kind"], found.details["opset"]) == ("mlProgram", "CoreML6")


@pytest.mark.parametrize("system", ["iOS16", "iOS18"])
def test_weights_in_int8(system, tmp_path):
    """Kept among attributes, and since iOS 18 among inputs."""
    traced = traced_by_jit(Net().eval(), torch.rand(1, 3, 32, 48))
    plain = ct.convert(
        traced,
        inputs=[ct.TensorType("image", shape=(1, 3, 32, 48))],
        minimum_deployment_target=ct.target[system],
        skip_model_load=True,
    )
    settings = OptimizationConfig(OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=64))
    path = tmp_path / "net.mlpackage"
    linear_quantize_weights(plain, settings).save(str(path))
    found = inspect_file(path)
    assert found.weights == {"int8": KERNELS}
    assert found.sizes.weights == KERNELS


def test_quantised_activations(tmp_path):
    """Another's program: between the pairs an op is integer, the last is not."""

    @Builder.program(input_specs=[Builder.TensorSpec((1, 8, 4, 4), types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        def pair(x):
            codes = Builder.quantize(input=x, scale=np.float16(0.1), zero_point=np.int8(3), output_dtype="int8")
            return Builder.dequantize(input=codes, scale=np.float16(0.1), zero_point=np.int8(3))

        y = pair(Builder.relu(x=Builder.max_pool(x=pair(x), kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")))
        return Builder.sigmoid(x=y, name="y")

    path = tmp_path / "net.mlpackage"
    ct.convert(
        program, source="milinternal", convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17,
        pass_pipeline=ct.PassPipeline.EMPTY, skip_model_load=True,
    ).save(str(path))  # fmt: skip
    found = inspect_file(path)
    assert {kind.op: kind.floats for kind in found.ops if kind.floats} == {"sigmoid": 1}
    assert (found.integer_ops, found.float_ops, found.tail_ops, found.border_ops) == (2, 1, 1, 4)


def test_pipeline_of_older_kinds(tmp_path):
    """A network of layers, and a suppression behind it."""
    traced = traced_by_jit(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.rand(1, 6, 4))
    network = ct.convert(traced, inputs=[ct.TensorType("x", shape=(1, 6, 4))], convert_to="neuralnetwork")
    model = Model_pb2.Model(specificationVersion=4)
    model.pipeline.models.add().CopyFrom(network.get_spec())
    nms = model.pipeline.models.add()
    nms.nonMaximumSuppression.confidenceOutputFeatureName = "confidence"
    nms.nonMaximumSuppression.stringClassLabels.vector.extend(["a", "b"])
    output = model.description.output.add(name="confidence")
    output.type.multiArrayType.dataType = output.type.multiArrayType.FLOAT32
    output.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=0, upperBound=10)
    output.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=2, upperBound=2)
    threshold = model.description.input.add(name="iouThreshold").type
    threshold.doubleType.SetInParent()
    threshold.isOptional = True
    path = tmp_path / "old.mlpackage"
    ct.models.utils.save_spec(model, str(path), weights_dir=str(tmp_path))
    found = inspect_file(path)
    assert found.needs == "iOS 13 or newer, specification 4"
    assert found.details["kind"] == "pipeline of neuralNetwork, nonMaximumSuppression"
    assert {kind.op for kind in found.ops} > {"activation", "nonMaximumSuppression"}
    assert [(t.name, t.shape, t.dtype, t.labels) for t in (*found.inputs, *found.outputs)] == [
        ("iouThreshold", (), "double, optional", 0),
        ("confidence", ("0..10", 2), "float32", 2),
    ]


def rename_root(folder):
    manifest = json.loads((folder / "Manifest.json").read_text())
    manifest["rootModelIdentifier"] = "other"
    (folder / "Manifest.json").write_text(json.dumps(manifest))


def cut(file, share=2):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // share])


BROKEN = {
    "missing": (shutil.rmtree, "there is no folder"),
    "a_file": (lambda folder: (shutil.rmtree(folder), folder.write_text("hello")), "there is no folder"),
    "empty": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "is not a whole Core ML package"),
    "no_manifest": (lambda folder: (folder / "Manifest.json").unlink(), "is not a whole Core ML package"),
    "manifest_cut": (lambda folder: cut(folder / "Manifest.json"), "is not a whole Core ML package"),
    "no_root": (rename_root, "is not a whole Core ML package"),
    "no_model": (lambda folder: (folder / MODEL).unlink(), "is not a whole Core ML package"),
    "model_empty": (lambda folder: (folder / MODEL).write_bytes(b""), "is not a whole Core ML package"),
    "model_cut": (lambda folder: cut(folder / MODEL), "is not a whole Core ML package"),
    "model_foreign": (lambda folder: (folder / MODEL).write_bytes(b"\x1c\0\0\0TFL3"), "is not a whole Core ML package"),
    "no_weights": (lambda folder: (folder / WEIGHTS).unlink(), "is not a whole weight file"),
    "weights_cut": (lambda folder: cut(folder / WEIGHTS), "is not a whole weight file"),
    "weights_foreign": (lambda folder: (folder / WEIGHTS).write_text("hello" * 99), "is not a whole weight file"),
}


@pytest.mark.parametrize(("damage", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_package(saved, tmp_path, damage, said):
    folder = shutil.copytree(saved, tmp_path / "net.mlpackage")
    damage(folder)
    with pytest.raises(DataError, match=said):
        inspect_file(folder)


def test_without_coremltools(monkeypatch, saved):
    for name in ("coremltools", "coremltools.proto", "coremltools.libmilstoragepython"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "exporter.lower.coreml.schema", raising=False)
    with pytest.raises(RuntimeUnavailable) as failure:
        inspect_file(saved)
    assert failure.value.try_ == ('pip install "edge-export[coreml]"',)


def test_int8_file_of_ours(tmp_path):
    """A detector: integer up to the heads, a float tail of the program's end and the suppression."""
    module = with_postprocess(make(), "nms", score_threshold=0.3, max_detections=10)
    x = torch.rand(1, 3, 48, 48)
    graph = simplify(capture(module, (x,), name="net", output_names=module.output_names, inside="detector"))
    quantize(graph, calibrate(graph, [(x,)], "minmax"))
    path = tmp_path / "net.mlpackage"
    CoreML().write(graph, path, Facts("net", "int8", labels=("a", "b", "c"), mean=(0.5,) * 3, std=(0.25,) * 3))
    found = inspect_file(path)
    floats = {kind.op: kind.floats for kind in found.ops if kind.op in ("conv", "relu", "exp", "nonMaximumSuppression")}
    assert floats == {"conv": 0, "relu": 0, "exp": 1, "nonMaximumSuppression": 1}
    assert found.weights == {"int8": 16 * (3 * 8 * 8 + 3 + 4)}
    assert found.needs == "iOS 17 or newer, specification 8"
    normalisation = 3
    assert found.float_ops - found.tail_ops == normalisation
    assert found.details["normalised"] == "inside: (x / 255 - [0.5, 0.5, 0.5]) / [0.25, 0.25, 0.25]"
    assert [(t.name, t.labels) for t in found.outputs] == [("confidence", 3), ("coordinates", 0)]
