"""What Xcode, Vision and an app see of a model: inputs and outputs with types and words, author, licence, metadata."""

from __future__ import annotations

from exporter.ir.graph import Graph
from exporter.lower.coreml.schema import MIL, FeatureTypes, Model
from exporter.lower.facts import Facts

_ARRAYS = {
    MIL.FLOAT32: FeatureTypes.ArrayFeatureType.FLOAT32,
    MIL.FLOAT16: FeatureTypes.ArrayFeatureType.FLOAT16,
    MIL.INT32: FeatureTypes.ArrayFeatureType.INT32,
}
SOURCE = "com.github.apple.coremltools.source"
"""The key by which Xcode and Netron name what a model was made from."""


def main(program: MIL.Program) -> tuple[MIL.Function, MIL.Block]:
    """The function that a prediction calls, and its only body."""
    function = program.functions["main"]
    return function, function.block_specializations[function.opset]


def takes_picture(graph: Graph, facts: Facts) -> bool:
    """Whether the model's one input is an RGB picture [1, 3, H, W], which the program normalises."""
    shapes = [value.shape for value in graph.inputs]
    return bool(facts.mean) and len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][:2] == (1, 3)


def describe(model: Model.Model, graph: Graph, facts: Facts) -> None:
    """Fill the description of a model that holds a program; types are those of the program's own values.

    Words that the description holds already (of a classifier's outputs) stay.
    """
    function, block = main(model.mlProgram)
    types = {output.name: output.type for operation in block.operations for output in operation.outputs}
    said = dict(facts.outputs) | {feature.name: feature.shortDescription for feature in model.description.output}
    del model.description.output[:]
    for given in function.inputs:
        model.description.input.append(_picture(given, facts) if takes_picture(graph, facts) else _array(given))
    for name in block.outputs:
        output = MIL.NamedValueType(name=name, type=types[name])
        model.description.output.append(_array(output, said.get(name, "")))
    _add_metadata(model.description.metadata, facts)


def _array(value: MIL.NamedValueType, text: str = "") -> Model.FeatureDescription:
    """The words are a file's own: tensors are multi-arrays, `classify` gives a string and a dictionary of strings."""
    feature = Model.FeatureDescription(name=value.name, shortDescription=text)
    tensor = value.type.tensorType
    if value.type.WhichOneof("type") == "dictionaryType":
        feature.type.dictionaryType.stringKeyType.SetInParent()
    elif tensor.dataType == MIL.STRING:
        feature.type.stringType.SetInParent()
    else:
        feature.type.multiArrayType.dataType = _ARRAYS[tensor.dataType]
        feature.type.multiArrayType.shape.extend(side.constant.size for side in tensor.dimensions)
    return feature


def _picture(value: MIL.NamedValueType, facts: Facts) -> Model.FeatureDescription:
    _, _, height, width = (side.constant.size for side in value.type.tensorType.dimensions)
    resized = f", resized by {facts.resize}" if facts.resize else ""
    text = f"RGB picture, {height} high and {width} wide{resized}; the model normalises it"
    feature = Model.FeatureDescription(name=value.name, shortDescription=text)
    picture = feature.type.imageType
    picture.width, picture.height, picture.colorSpace = width, height, FeatureTypes.ImageFeatureType.RGB
    return feature


def _add_metadata(metadata: Model.Metadata, facts: Facts) -> None:
    metadata.author, metadata.license = facts.author, facts.licence
    metadata.shortDescription, metadata.versionString = facts.description, facts.version
    own = facts.properties()
    own.pop("outputs", None)  # outputs have descriptions of their own, and a detector's are Core ML's
    metadata.userDefined.update({**own, SOURCE: "edge-export"})
