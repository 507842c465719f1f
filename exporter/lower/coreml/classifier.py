"""A classifier as Vision knows it: the label that won, and a dictionary of labels and probabilities.

The form is that of coremltools' ClassifierConfig (converters/mil/backend/mil/load.py): the op `classify` at the end of
the program. The model's own output stays beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.ir.graph import Graph, Value
from exporter.lower.coreml.description import main
from exporter.lower.coreml.schema import MIL, Model
from exporter.lower.facts import Facts

LABEL, PROBABILITIES = "classLabel", "classLabel_probs"
"""coremltools' names of the two outputs."""
_PROBABILITIES = ("softmax", "sigmoid")
_TRANSPARENT = ("reshape", "dequantize", "quantize", "float_tail")


def is_classifier(graph: Graph, facts: Facts) -> bool:
    """Whether the graph has one output [1, N] and N labels."""
    return bool(facts.labels) and [v.shape for v in graph.outputs] == [(1, len(facts.labels))]


def add_classifier(model: Model.Model, graph: Graph, facts: Facts) -> None:
    """Append `classify` to the model's program, behind a softmax where the model's output is no probability.

    Confidences are probabilities to Vision, which logits are not. A model that ends in a softmax, or in a sigmoid
    (labels that do not exclude each other), is taken as it is.
    """
    _, block = main(model.mlProgram)
    (output,), (name,) = graph.outputs, graph.output_names
    taken = {value.name for operation in block.operations for value in operation.outputs}
    probabilities, text = name, f"probability of every label: the output {name}"
    if not _is_probability(output):
        text = f"probability of every label: the softmax of the output {name}"
        probabilities = _add_softmax(block, name, output, taken)
    names = _fresh(LABEL, taken), _fresh(PROBABILITIES, taken)
    _add_classify(block, probabilities, facts.labels, names)
    block.outputs[:] = [*names, name]
    said = model.description
    said.predictedFeatureName, said.predictedProbabilitiesName = names
    for feature, words in zip(names, ("the most probable label", text), strict=True):
        said.output.add(name=feature, shortDescription=words)


def _is_probability(value: Value) -> bool:
    """Whether it comes from a softmax or a sigmoid, seen through ops that move values alone."""
    while value.producer is not None and value.producer.op.name in _TRANSPARENT:
        value = value.producer.inputs[0]
    return value.producer is not None and value.producer.op.name in _PROBABILITIES


def _fresh(name: str, taken: set[str]) -> str:
    """A name that no value bears, now taken."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _unique(labels: Sequence[str]) -> list[str]:
    """A dictionary holds a key once: a label that came before gets its index behind it."""
    return [f"{label} ({index})" if label in labels[:index] else label for index, label in enumerate(labels)]


# --- operations -------------------------------------------------------------------------------------------------------
def _add_softmax(block: MIL.Block, name: str, output: Value, taken: set[str]) -> str:
    """Over the labels, in float32; returns the name of its result."""
    result = _fresh(f"{name}_softmax", taken)
    axis = _fresh(f"{result}_axis", taken)
    index = MIL.Value(type=_scalar(MIL.INT32))
    index.immediateValue.tensor.ints.values.append(1)
    block.operations.add(
        type="const", outputs=[_named(axis, index.type)], attributes={"name": _text(axis), "val": index}
    )
    tensor = MIL.TensorType(dataType=MIL.FLOAT32, rank=len(output.shape))
    for side in output.shape:
        tensor.dimensions.add().constant.size = side
    block.operations.add(
        type="softmax",
        inputs={"x": _reference(name), "axis": _reference(axis)},
        outputs=[_named(result, MIL.ValueType(tensorType=tensor))],
        attributes={"name": _text(result)},
    )
    return result


def _add_classify(block: MIL.Block, source: str, labels: Sequence[str], names: tuple[str, str]) -> None:
    listed = MIL.Value()
    listed.type.listType.type.CopyFrom(_scalar(MIL.STRING))
    listed.type.listType.length.constant.size = len(labels)
    listed.immediateValue.list.values.extend(_text(label) for label in _unique(labels))
    probabilities = MIL.ValueType()
    probabilities.dictionaryType.keyType.CopyFrom(_scalar(MIL.STRING))
    probabilities.dictionaryType.valueType.CopyFrom(_scalar(MIL.FLOAT64))
    classes = MIL.Argument(arguments=[MIL.Argument.Binding(value=listed)])
    label, dictionary = names
    block.operations.add(
        type="classify",
        inputs={"probabilities": _reference(source), "classes": classes},
        outputs=[_named(label, _scalar(MIL.STRING)), _named(dictionary, probabilities)],
        attributes={"name": _text(label)},
    )


def _scalar(dtype: int) -> MIL.ValueType:
    return MIL.ValueType(tensorType=MIL.TensorType(dataType=dtype))


def _text(text: str) -> MIL.Value:
    value = MIL.Value(type=_scalar(MIL.STRING))
    value.immediateValue.tensor.strings.values.append(text)
    return value


def _named(name: str, kind: MIL.ValueType) -> MIL.NamedValueType:
    return MIL.NamedValueType(name=name, type=kind)


def _reference(name: str) -> MIL.Argument:
    return MIL.Argument(arguments=[MIL.Argument.Binding(name=name)])
