"""The .mlpackage around an ML program, held against what coremltools writes for the same model."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.milproto import load as milproto
from coremltools.libmodelpackage import ModelPackage
from parity import simplified
from torch import nn

from exporter.ir.graph import Graph
from exporter.lower.coreml import CoreML
from exporter.lower.coreml.description import main
from exporter.lower.coreml.package import SPECIFICATION, write_package
from exporter.lower.facts import Facts
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.verify.runtimes.mil_reference import MilReference

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")
LABELS = ("cat", "dog", "Größe", "bird", "cup")
FACTS = Facts(
    name="tiny",
    description="a classifier of five things",
    version="1.2",
    author="someone",
    licence="Apache-2.0",
    mean=(0.5, 0.25, 0.0),
    std=(0.5, 0.25, 1.0),
    resize="crop",
    labels=LABELS,
    outputs={"score": "one number a label"},
)
ENDS = {"logits": nn.Identity(), "softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid()}


class Net(nn.Module):
    def __init__(self, end: str) -> None:
        super().__init__()
        self.stem, self.head, self.end = nn.Conv2d(3, 32, 3, stride=2), nn.Linear(32, 5), ENDS[end]

    def forward(self, image):
        return {"score": self.end(self.head(self.stem(image).relu().mean((2, 3))))}


class Bare(nn.Module):
    """The same for torch.jit."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)["score"]


class Case:
    """A model as our graph, as coremltools' program, and as coremltools' classifier or plain package."""

    def __init__(self, end: str, folder) -> None:
        net, example = Net(end).eval().requires_grad_(False), torch.rand(1, 3, 32, 48)
        self.graph = simplified(net, example)
        self.traced = torch.jit.trace(Bare(net), example)
        plain = self.converted()
        plain.save(str(folder / "plain.mlpackage"))
        self.weights = folder / "plain.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
        self.program = plain.get_spec().mlProgram

    def converted(self, **more):
        return ct.convert(
            self.traced,
            inputs=[ct.ImageType("image", shape=(1, 3, 32, 48), color_layout=ct.colorlayout.RGB)],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
            **(more if more else {"outputs": [ct.TensorType("score", dtype=np.float32)]}),
        )

    def write(self, path, facts=FACTS, min_os=16):
        write_package(path, self.program, self.weights, self.graph, facts, min_os)
        return ct.models.MLModel(str(path), skip_model_load=True)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return {end: Case(end, tmp_path_factory.mktemp(end)) for end in ENDS}


@pytest.fixture
def logits(cases):
    return cases["logits"]


@pytest.fixture
def softmax(cases):
    return cases["softmax"]


def test_is_read_by_coremltools(logits, tmp_path):
    model = logits.write(tmp_path / "tiny.mlpackage")
    assert model.short_description == FACTS.description
    assert (model.author, model.license, model.version) == (FACTS.author, FACTS.licence, FACTS.version)
    assert dict(model.user_defined_metadata) == {
        "name": "tiny",
        "precision": "float32",
        "mean": "[0.5, 0.25, 0.0]",
        "std": "[0.5, 0.25, 1.0]",
        "resize": "crop",
        "labels": "\n".join(LABELS),
        "com.github.apple.coremltools.source": "edge-export",
    }
    assert model.input_description["image"] == (
        "RGB picture, 32 high and 48 wide, resized by crop; the model normalises it"
    )
    assert model.output_description["score"] == "one number a label"


def test_folder_is_laid_out_as_by_coremltools(logits, tmp_path):
    theirs, ours = tmp_path / "theirs.mlpackage", tmp_path / "ours.mlpackage"
    logits.converted().save(str(theirs))
    logits.write(ours)

    def laid_out(folder):
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))

    def entries(folder):
        manifest = json.loads((folder / "Manifest.json").read_text())
        items = manifest["itemInfoEntries"]
        assert items[manifest["rootModelIdentifier"]]["name"] == "model.mlmodel"
        return manifest["fileFormatVersion"], sorted(items.values(), key=lambda item: item["name"])

    assert laid_out(ours) == laid_out(theirs)
    assert entries(ours) == entries(theirs)
    assert ModelPackage.isValid(str(ours))
    assert (ours / "Data/com.apple.CoreML/weights/weight.bin").read_bytes() == logits.weights.read_bytes()


def test_same_bytes_without_dates(logits, tmp_path):
    folders = [tmp_path / name for name in ("first.mlpackage", "second.mlpackage")]
    for folder in folders:
        logits.write(folder)
    first, second = ({f.name: f.read_bytes() for f in folder.rglob("*") if f.is_file()} for folder in folders)
    assert first == second
    assert not any(re.search(rb"20\d\d-\d\d-\d\d", content) for content in first.values())


def test_written_over_an_older_one(logits, softmax, tmp_path):
    fresh, again = tmp_path / "fresh.mlpackage", tmp_path / "again.mlpackage"
    softmax.write(again)
    for folder in (fresh, again):
        logits.write(folder)
    assert (again / "Manifest.json").read_bytes() == (fresh / "Manifest.json").read_bytes()


@pytest.mark.parametrize("min_os", SPECIFICATION)
def test_specification_version(logits, tmp_path, min_os):
    found = logits.write(tmp_path / "tiny.mlpackage", min_os=min_os).get_spec().specificationVersion
    assert found == ct.target[f"iOS{min_os}"]


def test_classifier_is_that_of_coremltools(softmax, tmp_path):
    """But for the model's own output, which coremltools drops, and the words."""
    spec = softmax.write(tmp_path / "tiny.mlpackage").get_spec()
    theirs = softmax.converted(classifier_config=ct.ClassifierConfig(list(LABELS))).get_spec()
    assert [output.name for output in spec.description.output] == ["classLabel", "classLabel_probs", "score"]
    ours = spec.description
    del ours.output[2]
    for feature in [*ours.input, *ours.output]:
        feature.shortDescription = ""
    ours.metadata.CopyFrom(theirs.description.metadata)
    assert ours == theirs.description
    mine, other = (main(model.mlProgram)[1].operations[-1] for model in (spec, theirs))
    assert mine.type == "classify"
    for operation in (mine, other):  # names that each side chose
        operation.inputs["probabilities"].arguments[0].name = "source"
        operation.attributes["name"].Clear()
    assert mine == other


@pytest.mark.parametrize("end", ENDS)
def test_program_type_checks(cases, end, tmp_path):
    """Read by coremltools' own loader, which infers every type, `classify` included."""
    path = tmp_path / "tiny.mlpackage"
    spec = cases[end].write(path).get_spec()
    weights = str(path / "Data/com.apple.CoreML/weights")
    program = milproto.load(spec, spec.specificationVersion, file_weights_dir=weights)
    assert [output.name for output in program.functions["main"].outputs] == ["classLabel", "classLabel_probs", "score"]


def probabilities(spec):
    """The operation whose result `classify` takes, and the words for its dictionary."""
    operations = {output.name: op for op in main(spec.mlProgram)[1].operations for output in op.outputs}
    source = operations["classLabel"].inputs["probabilities"].arguments[0].name
    words = {feature.name: feature.shortDescription for feature in spec.description.output}
    return operations[source], words["classLabel_probs"]


def test_logits_are_no_probabilities(logits, tmp_path):
    source, words = probabilities(logits.write(tmp_path / "tiny.mlpackage").get_spec())
    assert (source.type, source.inputs["x"].arguments[0].name) == ("softmax", "score")
    assert words == "probability of every label: the softmax of the output score"


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_probabilities_are_taken_as_they_are(cases, end, tmp_path):
    source, words = probabilities(cases[end].write(tmp_path / "tiny.mlpackage").get_spec())
    assert source.outputs[0].name == "score"
    assert words == "probability of every label: the output score"


def test_repeated_labels_get_their_index(logits, tmp_path):
    repeated = Facts("tiny", labels=("crane", "dog", "crane", "cup", "crane"))
    spec = logits.write(tmp_path / "tiny.mlpackage", repeated).get_spec()
    classes = main(spec.mlProgram)[1].operations[-1].inputs["classes"].arguments[0].value.immediateValue.list.values
    found = [value.immediateValue.tensor.strings.values[0] for value in classes]
    assert found == ["crane", "dog", "crane (2)", "cup", "crane (4)"]


@pytest.mark.parametrize("labels", [(), LABELS[:4]], ids=["none", "another_number"])
def test_no_classifier_without_a_label_each(logits, tmp_path, labels):
    spec = logits.write(tmp_path / "tiny.mlpackage", Facts("tiny", labels=labels)).get_spec()
    assert not spec.description.predictedFeatureName
    assert spec.mlProgram == logits.program


def test_input_without_mean_is_an_array(logits, tmp_path):
    spec = logits.write(tmp_path / "tiny.mlpackage", Facts("tiny")).get_spec()
    array = spec.description.input[0].type.multiArrayType
    assert (list(array.shape), array.dataType) == ([1, 3, 32, 48], array.FLOAT32)


@pytest.mark.parametrize("precision", ["float32", "float16", "weights-int8", "int8"])
@pytest.mark.parametrize("end", ENDS)
def test_our_own_classifier_in_every_precision(cases, end, precision, tmp_path):
    """On the reference executor: the dictionary is the own output's softmax, or the own output where that is one."""
    graph, pixels = cases[end].graph.clone(), np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    if precision == "int8":
        quantize(graph, calibrate(graph, [(torch.rand(1, 3, 32, 48),)], "minmax"))
    path = tmp_path / "tiny.mlpackage"
    CoreML().write(graph, path, replace(FACTS, precision=precision))
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    milproto.load(spec, spec.specificationVersion, file_weights_dir=str(path / "Data/com.apple.CoreML/weights"))
    found = MilReference(path).run([pixels])
    score = torch.from_numpy(found["score"])
    expected = score.softmax(1) if end == "logits" else score
    dictionary = found["classLabel_probs"]
    given = [dictionary[label] for label in LABELS] if isinstance(dictionary, dict) else list(dictionary.ravel())
    np.testing.assert_allclose(given, expected[0].numpy(), rtol=1e-6)
    assert found["classLabel"] == LABELS[int(score.argmax())]


def test_names_that_the_model_has_are_left_to_it(tmp_path):
    graph = Graph("named")
    x = graph.add_input("classLabel", (1, 3))
    graph.set_outputs({"classLabel_probs": graph.emit("relu", [x])})
    path = tmp_path / "named.mlpackage"
    CoreML().write(graph, path, Facts("named", labels=("a", "b", "c")))
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    names = [output.name for output in spec.description.output]
    assert names == ["classLabel_2", "classLabel_probs_2", "classLabel_probs"]
    found = MilReference(path).run([np.array([[1, 3, 2]], np.float32)])
    assert found["classLabel_2"] == "b"
