"""Small .tflite files for tests, written with the schema's object API."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Named = Sequence[tuple[str, int]]
SHAPE = (1, 8, 8, 3)


class Builder:
    """One subgraph: `tensor` and `op` append to it, `finish` gives the file's bytes."""

    def __init__(self) -> None:
        self.graph = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[], name="main")
        self.model = schema.ModelT(
            version=3,
            description="test",
            subgraphs=[self.graph],
            buffers=[schema.BufferT()],
            operatorCodes=[],
            signatureDefs=[],
        )

    def tensor(self, name: str, shape: Sequence[int], dtype: str, scale: Sequence[float] = (), const=None) -> int:
        buffer = 0
        if const is not None:
            self.model.buffers.append(schema.BufferT(data=np.frombuffer(const.astype(dtype).tobytes(), np.uint8)))
            buffer = len(self.model.buffers) - 1
        quant = None
        if scale:
            zeros = np.zeros(len(scale), np.int64)
            quant = schema.QuantizationParametersT(scale=np.array(scale, np.float32), zeroPoint=zeros)
        kind = getattr(schema.TensorType, dtype.upper())
        self.graph.tensors.append(
            schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name, quantization=quant)
        )
        return len(self.graph.tensors) - 1

    def op(self, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, options=None) -> None:
        code = getattr(schema.BuiltinOperator, name)
        self.model.operatorCodes.append(
            schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)
        )
        kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T")) if options else 0
        self.graph.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.model.operatorCodes) - 1,
                inputs=list(inputs),
                outputs=list(outputs),
                builtinOptions=options,
                builtinOptionsType=kind,
            )
        )

    def finish(self, inputs: Named, outputs: Named, *, signature: bool = True) -> bytes:
        self.graph.inputs, self.graph.outputs = [i for _, i in inputs], [i for _, i in outputs]
        if signature:
            self.model.signatureDefs = [
                schema.SignatureDefT(
                    signatureKey="serving_default",
                    subgraphIndex=0,
                    inputs=[schema.TensorMapT(name, i) for name, i in inputs],
                    outputs=[schema.TensorMapT(name, i) for name, i in outputs],
                )
            ]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def int8_conv(*, version: int = 3, concat: float | None = None, signature: bool = True) -> bytes:
    """A 1x1 convolution that copies channel i to channel i: scale 0.5 to scale 0.5, so codes pass unchanged.

    `concat` appends a concatenation of the output with itself whose result has that scale.
    """
    b = Builder()
    x = b.tensor("x", SHAPE, "int8", [0.5])
    w = b.tensor("w", (3, 1, 1, 3), "int8", [1.0, 1.0, 1.0], const=np.eye(3).reshape(3, 1, 1, 3))
    bias = b.tensor("bias", (3,), "int32", [0.5, 0.5, 0.5], const=np.zeros(3))
    y = b.tensor("y", SHAPE, "int8", [0.5])
    conv = schema.Conv2DOptionsT(strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
    b.op("CONV_2D", [x, w, bias], [y], version, conv)
    if concat is not None:
        z = b.tensor("z", (*SHAPE[:3], 6), "int8", [concat])
        b.op("CONCATENATION", [y, y], [z], 2, schema.ConcatenationOptionsT(axis=3))
        return b.finish([("image", x)], [("joined", z)])
    return b.finish([("image", x)], [("copy", y)], signature=signature)


def float_ops(*names: str) -> bytes:
    """A chain of unary float ops: input `image`, output `out`."""
    b = Builder()
    first = previous = b.tensor("x", SHAPE, "float32")
    for i, name in enumerate(names):
        following = b.tensor(f"t{i}", SHAPE, "float32")
        b.op(name, [previous], [following])
        previous = following
    return b.finish([("image", first)], [("out", previous)])


def subtract() -> bytes:
    """`z - a`, its signature listing z first: the runtime would list them by name."""
    b = Builder()
    z, a, y = (b.tensor(name, (4,), "float32") for name in "zay")
    b.op("SUB", [z, a], [y], options=schema.SubOptionsT())
    b.op("NEG", [y], [n := b.tensor("n", (4,), "float32")], options=schema.NegOptionsT())
    return b.finish([("z", z), ("a", a)], [("up", y), ("down", n)])
