"""What a .mlpackage folder holds, read through Core ML's schema: programs, pipelines, older kinds by their layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from exporter.report.inspect.coreml_weights import COMPRESSED, Weights
from exporter.report.inspect.found import Inspection, Sizes, Step, Tensor, count_kinds, outside_pairs, tail_behind_pairs
from exporter.verify.runtimes.mil_reference.features import ARRAYS
from exporter.verify.runtimes.mil_reference.package import MANIFEST, read_package
from exporter.verify.runtimes.mil_reference.values import DATA_TYPES

SYSTEMS = {1: "11", 2: "11.2", 3: "12", 4: "13", 5: "14", 6: "15", 7: "16", 8: "17", 9: "18", 10: "26"}
"""Version of the specification -> the first iOS that reads it. Source: coremltools/__init__.py."""
QUANTIZE, DEQUANTIZE = frozenset({"quantize"}), frozenset({"dequantize"})
JOINING = frozenset({
    "relu", "relu6", "clip", "gather", "reshape", "transpose", "slice_by_index", "slice_by_size", "pad", "concat",
    "split", "squeeze", "expand_dims", "identity", "tile", "depth_to_space", "space_to_depth", "pixel_shuffle", "cast",
})  # fmt: skip
"""Activations, and ops that move elements or change their type alone."""
NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
PIPELINES = ("pipelineClassifier", "pipelineRegressor")


def read(path: Path) -> Inspection:
    """Raises DataError for a missing, foreign or damaged package, RuntimeUnavailable without coremltools."""
    package = read_package(path)
    model, files = package.model, sorted(file for file in path.rglob("*") if file.is_file())
    described, parts = model.description, list(_parts(model))
    steps = [step for part in parts for step in _steps(part)]
    weights = Weights(package)
    for part in filter(_is_program, parts):
        weights.add(_block(part).operations)
    results = {output.name for part in parts for output in part.description.output}
    floats = outside_pairs(steps, results, QUANTIZE, DEQUANTIZE, JOINING)
    pairs = sum(step.kind in QUANTIZE | DEQUANTIZE for step in steps)
    total = sum(file.stat().st_size for file in files)
    of_weights, of_constants = weights.sizes()
    labels, notes = _labels(model), dict(described.metadata.userDefined)
    source = next(iter(labels), "")
    return Inspection(
        path=str(path),
        format="Core ML",
        sizes=Sizes(
            total=total, weights=of_weights, constants=of_constants, rest=max(0, total - of_weights - of_constants)
        ),
        weights=weights.elements(),
        name=notes.get("name", ""),
        description=described.metadata.shortDescription,
        version=described.metadata.versionString,
        author=described.metadata.author,
        licence=described.metadata.license,
        inputs=tuple(_tensor(feature) for feature in described.input),
        outputs=tuple(_tensor(feature, labels.get(feature.name, 0)) for feature in described.output),
        ops=count_kinds(steps, floats),
        integer_ops=len(steps) - len(floats) - pairs,
        float_ops=len(floats),
        tail_ops=tail_behind_pairs(steps, floats, QUANTIZE),
        border_ops=pairs,
        transposes=sum(step.kind == "transpose" for step in steps),
        needs=_needs(model.specificationVersion),
        labels=len(notes.get("labels", "").splitlines()) if not source else 0,
        metadata=tuple(sorted(notes.keys() - {"name"})),
        details=_details(model, parts)
        | {f"sha256 of {file.name}": _sha256(file) for file in files if file.name != MANIFEST},
    )


# --- structure --------------------------------------------------------------------------------------------------------
def _parts(model: Any) -> Iterator[Any]:
    """The model, or those that a pipeline joins, at any depth."""
    kind = model.WhichOneof("Type")
    pipeline = model.pipeline if kind == "pipeline" else getattr(model, kind).pipeline if kind in PIPELINES else None
    if pipeline is None:
        yield model
    else:
        for part in pipeline.models:
            yield from _parts(part)


def _is_program(model: Any) -> bool:
    return model.WhichOneof("Type") == "mlProgram" and bool(model.mlProgram.functions)


def _function(model: Any) -> Any:
    """A program's main function, or its first."""
    functions = model.mlProgram.functions
    name = model.description.defaultFunctionName or "main"
    return functions[name if name in functions else min(functions)]


def _block(model: Any) -> Any:
    function = _function(model)
    return function.block_specializations[function.opset]


def _steps(model: Any) -> Iterator[Step]:
    """Ops of a program or layers of a network; any other kind of model is one step. Constants are none."""
    kind = str(model.WhichOneof("Type"))
    if _is_program(model):
        yield from _operations(_block(model).operations, {i.name: i.type for i in _function(model).inputs})
    elif kind in NETWORKS:
        for layer in getattr(model, kind).layers:
            names = frozenset({*layer.input, *layer.output})
            yield Step(layer.WhichOneof("layer") or "layer", tuple(layer.input), tuple(layer.output), names)
    else:
        sides = model.description.input, model.description.output
        given, made = (tuple(feature.name for feature in side) for side in sides)
        yield Step(kind, given, made, frozenset({*given, *made}))


def _operations(operations: Iterable[Any], types: dict[str, Any]) -> Iterator[Step]:
    fixed: set[str] = set()
    for operation in operations:
        made = tuple(output.name for output in operation.outputs)
        if operation.type == "const" or operation.type.startswith(COMPRESSED):
            fixed.update(made)
            continue
        types |= {output.name: output.type for output in operation.outputs}
        bound = [binding.name for argument in operation.inputs.values() for binding in argument.arguments]
        given = tuple(name for name in bound if name and name not in fixed)
        floats = frozenset(name for name in (*given, *made) if name in types and "float" in _dtype(types[name]))
        yield Step(operation.type, given, made, floats)


# --- inputs and outputs -----------------------------------------------------------------------------------------------
def _tensor(feature: Any, labels: int = 0) -> Tensor:
    kind, optional = feature.type.WhichOneof("Type"), ", optional" if feature.type.isOptional else ""
    shape: tuple[int | str, ...] = ()
    dtype = str(kind).removesuffix("Type")
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        ranges = [(r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges]
        shape = tuple(low if low == high else f"{low}..{'' if high < 0 else high}" for low, high in ranges)
        shape = shape or tuple(array.shape)
        dtype = ARRAYS.get(array.dataType, "array")
    elif kind == "imageType":
        image = feature.type.imageType
        shape, dtype = (image.height, image.width), f"{image.ColorSpace.Name(image.colorSpace)} picture"
    return Tensor(name=feature.name, shape=shape, dtype=dtype + optional, labels=labels)


def _labels(model: Any) -> dict[str, int]:
    """Output -> how many labels belong to it, of a classifier and of a detector."""
    found = {}
    for part in _parts(model):
        kind = part.WhichOneof("Type")
        if kind == "nonMaximumSuppression":
            nms = part.nonMaximumSuppression
            labels = getattr(nms, nms.WhichOneof("ClassLabels") or "stringClassLabels")
            found[nms.confidenceOutputFeatureName] = len(labels.vector)
        elif _is_program(part) and part.description.predictedProbabilitiesName:
            for operation in _block(part).operations:
                if operation.type == "classify":
                    classes = operation.inputs["classes"].arguments[0].value.immediateValue.list.values
                    found[part.description.predictedProbabilitiesName] = len(classes)
    return {name: number for name, number in found.items() if number}


# --- words ------------------------------------------------------------------------------------------------------------
def _dtype(kind: Any) -> str:
    return DATA_TYPES.get(kind.tensorType.dataType, "") if kind.WhichOneof("type") == "tensorType" else ""


def _needs(version: int) -> str:
    system = f"iOS {SYSTEMS[version]} or newer" if version in SYSTEMS else ""
    return ", ".join(part for part in (system, f"specification {version}") if part)


def _details(model: Any, parts: list[Any]) -> dict[str, str]:
    kinds = [str(part.WhichOneof("Type")) for part in parts]
    programs = [part for part in parts if _is_program(part)]
    functions = max((len(part.mlProgram.functions) for part in programs), default=0)
    notes = dict(model.description.metadata.userDefined)
    picture = any(feature.type.WhichOneof("Type") == "imageType" for feature in model.description.input)
    normalised = picture and notes.get("mean") and notes.get("std")
    texts = {
        "kind": f"pipeline of {', '.join(kinds)}" if kinds != [model.WhichOneof("Type")] else kinds[0],
        "opset": ", ".join(sorted({_function(part).opset for part in programs})),
        "functions": f"{functions}: only one is shown" if functions > 1 else "",
        "normalised": f"inside: (x / 255 - {notes['mean']}) / {notes['std']}" if normalised else "",
    }
    return {key: text for key, text in texts.items() if text}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
