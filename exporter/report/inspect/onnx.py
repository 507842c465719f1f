"""What a .onnx file holds, read through its schema; weights beside it are counted and not read."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporter.errors import DataError, RuntimeUnavailable
from exporter.report.inspect.found import Inspection, Sizes, Step, Tensor, count_kinds, outside_pairs, tail_behind_pairs

QUANTIZE = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
DEQUANTIZE = frozenset({"DequantizeLinear"})
JOINING = frozenset({
    "Relu", "Clip", "Gather", "Reshape", "Transpose", "Slice", "Pad", "Concat", "Split", "Squeeze", "Unsqueeze",
    "Flatten", "Identity", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
})  # fmt: skip
"""Ops that runtimes join with the one before or behind, and those that move elements alone."""
KERNEL_OPERANDS = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "QLinearConv": (3,), "QLinearMatMul": (0, 3),
    "ConvInteger": (1,), "MatMulInteger": (0, 1), "Gather": (0,),
}  # fmt: skip
"""Op -> the operands that hold a kernel, where they are constant."""
OWN_KEYS = ("name", "author", "license")
"""Entries of the metadata that are shown as facts."""


class _Reader:
    """One parsed model."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.model, self.graph = onnx, model, model.graph
        self.notes = {entry.key: entry.value for entry in model.metadata_props}
        self.nodes = [node for node in self.graph.node if node.op_type != "Constant"]
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        folded = {node.output[0]: node.attribute for node in self.graph.node if node.op_type == "Constant"}
        self.constants |= {name: a.t for name, attributes in folded.items() for a in attributes if a.name == "value"}
        self.fixed = folded.keys() | self.constants.keys()
        self.steps = list(self._steps())

    def _steps(self) -> Iterator[Step]:
        """A tensor whose type nobody knows counts as float."""
        try:
            inferred = self.onnx.shape_inference.infer_shapes(self.model).graph
        except Exception:  # its own class of errors; a foreign op may contradict itself
            inferred = self.graph
        infos = [*inferred.value_info, *inferred.input, *inferred.output]
        types = {info.name: self._dtype(info.type.tensor_type.elem_type) for info in infos}
        for node in self.nodes:
            given = tuple(name for name in node.input if name and name not in self.fixed)
            made = tuple(name for name in node.output if name)
            floats = frozenset(name for name in (*given, *made) if "float" in types.get(name, "float"))
            yield Step(node.op_type, given, made, floats)

    # --- inputs and outputs -------------------------------------------------------------------------------------------
    def inputs(self) -> tuple[Tensor, ...]:
        """Initializers may be listed among the graph's inputs; they are none."""
        found = [self._tensor(info, "input") for info in self.graph.input if info.name not in self.constants]
        mean, std = (self._scaled(key) for key in ("mean", "std"))
        if len(found) == 1 and mean and std:
            found = [found[0].model_copy(update={"mean": mean, "std": std})]
        return tuple(found)

    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(self._tensor(info, "output") for info in self.graph.output)

    def _tensor(self, info: Any, side: str) -> Tensor:
        shape = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in info.type.tensor_type.shape.dim
        )
        pair = next(
            (
                node
                for node in self.nodes
                if (side == "input" and node.op_type in DEQUANTIZE and node.input[0] == info.name)
                or (side == "output" and node.op_type == "QuantizeLinear" and node.output[0] == info.name)
            ),
            None,
        )
        scale, zero_point = (self._number(pair, operand) for operand in (1, 2)) if pair else (None, None)
        return Tensor(
            name=info.name,
            shape=shape,
            dtype=self._dtype(info.type.tensor_type.elem_type),
            scale=scale,
            zero_point=None if zero_point is None else int(zero_point),
        )

    def _number(self, node: Any, operand: int) -> float | None:
        """A constant scalar; None for anything else."""
        tensor = self.constants.get(node.input[operand]) if operand < len(node.input) else None
        if tensor is None or math.prod(tensor.dims) != 1 or tensor.external_data:
            return None
        return float(self.onnx.numpy_helper.to_array(tensor).reshape(()))

    def _scaled(self, key: str) -> tuple[float, ...]:
        """Our own metadata, for pixels in 0..255."""
        try:
            return tuple(255 * float(value) for value in json.loads(self.notes.get(key, "[]")))
        except (ValueError, TypeError):
            return ()

    # --- constants ----------------------------------------------------------------------------------------------------
    def kernels(self) -> set[str]:
        """Constants that are the kernel of some op, seen through the op that dequantizes or widens them."""
        stands_for = {n.output[0]: n.input[0] for n in self.nodes if n.op_type in (*DEQUANTIZE, "Cast")}
        found = {
            stands_for.get(node.input[at], node.input[at])
            for node in self.nodes
            for at in KERNEL_OPERANDS.get(node.op_type, ())
            if at < len(node.input)
        }
        return found & self.constants.keys()

    def bytes_of(self, names: set[str]) -> int:
        return (
            sum(math.prod(self.constants[n].dims) * _bits(self._dtype(self.constants[n].data_type)) for n in names) // 8
        )

    def elements(self, names: set[str]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for name in names:
            counts[self._dtype(self.constants[name].data_type)] += math.prod(self.constants[name].dims)
        return dict(counts.most_common())

    def external(self) -> set[str]:
        """Names of the files that hold weights beside the model."""
        return {e.value for t in self.constants.values() for e in t.external_data if e.key == "location"}

    def _dtype(self, code: int) -> str:
        name = self.onnx.TensorProto.DataType.Name(code).lower()
        return {"float": "float32", "double": "float64"}.get(name, name)


def read(path: Path) -> Inspection:
    """Raises DataError for a missing, foreign or damaged file, RuntimeUnavailable without onnx."""
    onnx = _package()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}", why=error.strerror or str(error)) from error
    found = _Reader(onnx, _parsed(onnx, path, content))
    model, graph = found.model, found.graph
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    floats = outside_pairs(found.steps, {info.name for info in graph.output}, QUANTIZE, DEQUANTIZE, JOINING)
    pairs = sum(step.kind in QUANTIZE | DEQUANTIZE for step in found.steps)
    beside = [path.parent / name for name in sorted(found.external())]
    kernels = found.kernels()
    total = len(content) + sum(file.stat().st_size for file in beside if file.is_file())
    of_weights, of_constants = found.bytes_of(kernels), found.bytes_of(found.constants.keys() - kernels)
    return Inspection(
        path=str(path),
        format="ONNX",
        sha256=hashlib.sha256(content).hexdigest(),
        sizes=Sizes(
            total=total, weights=of_weights, constants=of_constants, rest=max(0, total - of_weights - of_constants)
        ),
        weights=found.elements(kernels),
        name=found.notes.get("name") or graph.name,
        description=model.doc_string,
        version=str(model.model_version or ""),
        author=found.notes.get("author", ""),
        licence=found.notes.get("license", ""),
        inputs=found.inputs(),
        outputs=found.outputs(),
        ops=count_kinds(found.steps, floats),
        integer_ops=len(found.steps) - len(floats) - pairs,
        float_ops=len(floats),
        tail_ops=tail_behind_pairs(found.steps, floats, QUANTIZE),
        border_ops=pairs,
        transposes=sum(step.kind == "Transpose" for step in found.steps),
        needs=_needs(onnx, opsets),
        labels=len(found.notes.get("labels", "").splitlines()),
        metadata=tuple(key for key in found.notes if key not in OWN_KEYS),
        details=_details(model, opsets, beside),
    )


def _package() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise RuntimeUnavailable(
            "reading a .onnx file needs onnx, which is not installed",
            why=str(error),
            try_='pip install "edge-export[onnx]"',
        ) from error


def _parsed(onnx: Any, path: Path, content: bytes) -> Any:
    broken = DataError(f"{path} is not a readable ONNX file", try_="export it again, or check the copy's sha256")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError; its class depends on the implementation that is loaded
        broken.why = str(error).splitlines()[0]
        raise broken from error
    if not model.ir_version or not model.HasField("graph"):
        broken.why = "it holds no graph"
        raise broken
    return model


def _needs(onnx: Any, opsets: dict[str, int]) -> str:
    """The first release of ONNX that knows the file's opset."""
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    releases = [row[0] for row in onnx.helper.VERSION_TABLE if row[2] >= opset]
    return f"opset {opset}" + (f": ONNX {releases[0]} or newer" if releases else "")


def _details(model: Any, opsets: dict[str, int], beside: list[Path]) -> dict[str, str]:
    producer = f"{model.producer_name} {model.producer_version}".strip()
    inner = sum(a.type in (a.GRAPH, a.GRAPHS) for node in model.graph.node for a in node.attribute)
    texts = {
        "producer": producer,
        "other opsets": ", ".join(f"{name} {v}" for name, v in opsets.items() if name not in ("", "ai.onnx")),
        "subgraphs": f"{inner} inside of ops, not shown" if inner else "",
        "functions": f"{len(model.functions)}, not shown" if model.functions else "",
        "weights in": ", ".join(f.name if f.is_file() else f"{f.name}, which is missing" for f in beside),
    }
    return {key: text for key, text in texts.items() if text}


def _bits(dtype: str) -> int:
    """Of one element as stored; `bool` takes a byte, strings are not counted."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8 * (dtype == "bool")
