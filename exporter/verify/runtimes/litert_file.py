"""What a .tflite file says about itself, read through the schema: no kernel runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from exporter.errors import DataError, RuntimeUnavailable

INSTALL = 'pip install "ai-edge-litert>=2.1"'
FLOATS = ("float16", "float32", "float64", "bfloat16")


@dataclass(frozen=True)
class FileTensor:
    """A tensor as stored. `scale` has one entry per channel, or none when the tensor is not quantised."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    constant: bool


@dataclass(frozen=True)
class FileOp:
    """An operator. `name` is the schema's (`CONV_2D`), or a custom op's own; tensors by index, -1 for an absent one."""

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom: bool = False


@dataclass(frozen=True)
class Signature:
    """A signature of the file: (name, tensor index) of inputs and outputs, in the file's order."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class TFLiteFile:
    """The first subgraph of a .tflite file, its signatures and the names of its metadata buffers."""

    description: str
    subgraphs: int
    tensors: tuple[FileTensor, ...]
    ops: tuple[FileOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[Signature, ...]
    metadata: tuple[str, ...]

    @cached_property
    def float_tensors(self) -> tuple[FileTensor, ...]:
        """Tensors, constants included, that some op reads or writes and that hold floats."""
        used = {i for op in self.ops for i in (*op.inputs, *op.outputs)}
        return tuple(t for t in self.tensors if t.index in used and t.dtype in FLOATS)

    @cached_property
    def float_ops(self) -> tuple[FileOp, ...]:
        """Ops with a float tensor on either side: in a full-integer file only QUANTIZE and DEQUANTIZE, if any."""
        floats = {t.index for t in self.float_tensors}
        return tuple(op for op in self.ops if floats & {*op.inputs, *op.outputs})


def read_file(path: Path) -> TFLiteFile:
    """Read a .tflite file: DataError when it is missing, foreign or broken, RuntimeUnavailable without the schema."""
    content = read_bytes(path)
    try:
        return _parse(content)
    except ImportError as error:
        raise RuntimeUnavailable("the TFLite schema is not installed", why=str(error), try_=INSTALL) from error
    except Exception as error:  # the generated reader does not verify: a broken offset can raise nearly anything
        raise broken(path, f"{type(error).__name__}: {error}") from error


@lru_cache(maxsize=4)
def _parse(content: bytes) -> TFLiteFile:
    """Cached: unpacking takes 0.3 s for EfficientDet-D0, and one verification asks several times."""
    from ai_edge_litert import schema_py_generated as schema

    return _facts(schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)), schema)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that starts as a TFLite flatbuffer does (identifier `TFL3` at byte 4)."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}", why=str(error.strerror or error)) from error
    if content[4:8] != b"TFL3":
        raise broken(path, "the identifier TFL3 is not at byte 4")
    return content


def broken(path: Path, why: str) -> DataError:
    """The error for a file that is no readable TFLite model."""
    return DataError(
        f"{path} is not a readable TFLite file", why=why, try_="export it again, or check the copy's sha256"
    )


def _facts(model: object, schema: object) -> TFLiteFile:
    graph = model.subgraphs[0]  # type: ignore[attr-defined]
    op_names = _names(schema.BuiltinOperator)  # type: ignore[attr-defined]
    types = {code: name.lower() for code, name in _names(schema.TensorType).items()}  # type: ignore[attr-defined]
    tensors = []
    for i, t in enumerate(graph.tensors):
        q = t.quantization
        scale = tuple(float(s) for s in q.scale) if q is not None and q.scale is not None else ()
        zero = tuple(int(z) for z in q.zeroPoint) if q is not None and q.zeroPoint is not None else ()
        buffer = model.buffers[t.buffer]  # type: ignore[attr-defined]
        tensors.append(
            FileTensor(
                index=i,
                name=_text(t.name),
                shape=_ints(t.shape),
                dtype=types[t.type],
                scale=scale,
                zero_point=zero,
                axis=q.quantizedDimension if q is not None else 0,
                constant=bool(buffer.offset) or (buffer.data is not None and len(buffer.data) > 0),
            )
        )
    ops = []
    for i, op in enumerate(graph.operators or ()):
        code = model.operatorCodes[op.opcodeIndex]  # type: ignore[attr-defined]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)  # the schema's rule for codes above 127
        custom = code.customCode is not None
        name = _text(code.customCode) if custom else op_names[builtin]
        ops.append(FileOp(i, name, code.version, _ints(op.inputs), _ints(op.outputs), custom))
    return TFLiteFile(
        description=_text(model.description),  # type: ignore[attr-defined]
        subgraphs=len(model.subgraphs),  # type: ignore[attr-defined]
        tensors=tuple(tensors),
        ops=tuple(ops),
        inputs=_ints(graph.inputs),
        outputs=_ints(graph.outputs),
        signatures=tuple(
            Signature(_text(s.signatureKey), s.subgraphIndex, _maps(s.inputs), _maps(s.outputs))
            for s in model.signatureDefs or ()  # type: ignore[attr-defined]
        ),
        metadata=tuple(_text(m.name) for m in model.metadata or ()),  # type: ignore[attr-defined]
    )


def _names(enum: type) -> dict[int, str]:
    return {code: name for name, code in vars(enum).items() if not name.startswith("_")}


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _ints(values: object) -> tuple[int, ...]:
    return tuple(int(v) for v in values) if values is not None else ()  # type: ignore[attr-defined]


def _maps(entries: object) -> tuple[tuple[str, int], ...]:
    return tuple((_text(e.name), int(e.tensorIndex)) for e in entries or ())  # type: ignore[attr-defined]
