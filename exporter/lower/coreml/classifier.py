"""A classifier as Vision knows it: the label that won, and a dictionary of labels and probabilities.

The form is that of coremltools' ClassifierConfig (converters/mil/backend/mil/load.py): the op `classify` at the end of
the program. The model's own output stays beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.ir.graph import Graph, Value
from exporter.lower.coreml.description import main
from exporter.lower.coreml.names import fresh
from exporter.lower.coreml.schema import MIL, Model
from exporter.lower.coreml.weights import immediate, tensor_type
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
    function, block = main(model.mlProgram)
    (output,), (name,) = graph.outputs, graph.output_names
    values = [*function.inputs, *(value for operation in block.operations for value in operation.outputs)]
    taken = {value.name for value in values}
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
    unique = fresh(name, taken)
    taken.add(unique)
    return unique


def _unique(labels: Sequence[str]) -> list[str]:
    """A dictionary holds a key once: a label that came before gets its index behind it."""
    return [f"{label} ({index})" if label in labels[:index] else label for index, label in enumerate(labels)]


# --- operations -------------------------------------------------------------------------------------------------------
def _add_softmax(block: MIL.Block, name: str, output: Value, taken: set[str]) -> str:
    """Over the labels, in float32; returns the name of its result."""
    result = _fresh(f"{name}_softmax", taken)
    axis = _fresh(f"{result}_axis", taken)
    const = block.operations.add(
        type="const", attributes={"name": immediate(axis), "val": immediate(np.array(1, np.int32))}
    )
    const.outputs.add(name=axis, type=tensor_type("int32", ()))
    softmax = block.operations.add(
        type="softmax", inputs={"x": _reference(name), "axis": _reference(axis)}, attributes={"name": immediate(result)}
    )
    softmax.outputs.add(name=result, type=tensor_type("float32", output.shape))
    return result


def _add_classify(block: MIL.Block, source: str, labels: Sequence[str], names: tuple[str, str]) -> None:
    string = tensor_type("string", ())
    listed = MIL.Value()
    listed.type.listType.type.CopyFrom(string)
    listed.type.listType.length.constant.size = len(labels)
    listed.immediateValue.list.values.extend(immediate(label) for label in _unique(labels))
    probabilities = MIL.ValueType()
    probabilities.dictionaryType.keyType.CopyFrom(string)
    probabilities.dictionaryType.valueType.tensorType.dataType = MIL.FLOAT64
    label, dictionary = names
    classify = block.operations.add(
        type="classify",
        inputs={
            "probabilities": _reference(source),
            "classes": MIL.Argument(arguments=[MIL.Argument.Binding(value=listed)]),
        },
        attributes={"name": immediate(label)},
    )
    classify.outputs.add(name=label, type=string)
    classify.outputs.add(name=dictionary, type=probabilities)


def _reference(name: str) -> MIL.Argument:
    return MIL.Argument(arguments=[MIL.Argument.Binding(name=name)])
