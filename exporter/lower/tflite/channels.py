"""Moving whole channels, without TRANSPOSE."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Node
from exporter.ir.quant import QuantParams
from exporter.lower.tflite.emit import Emitter, spelling


@spelling
def gather_channels(e: Emitter, node: Node) -> None:
    """A 1x1 convolution whose weight is a matrix of zeros and ones.

    Exact: in float each output is one input times 1 plus zeros; in int8 the weight's scale is 1, so the codes come out
    as they went in.
    """
    x, channels = node.inputs[0], node.attrs["channels"]
    matrix = np.zeros((len(channels), 1, 1, x.shape[1]), np.float32)
    matrix[range(len(channels)), 0, 0, channels] = 1
    filters, bias = _constants(e, matrix, x.quant)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
    e.op("CONV_2D", [e.stored(x), filters, bias], e.result(node.output), node, options)


def _constants(e: Emitter, matrix: np.ndarray, quant: QuantParams | None) -> tuple[int, int]:
    """Filters and bias of a convolution that moves values, or codes at the scale of `quant`."""
    outputs, inputs = matrix.shape[0], matrix.shape[-1]
    name = f"gather {outputs} of {inputs}"
    if quant is None:
        return e.file.constant(name, matrix), e.file.constant(f"{name}/bias", np.zeros(outputs, np.float32))
    ones = QuantParams((1.0,) * outputs, 0, axis=0)
    derived = QuantParams(quant.scale * outputs, 0, axis=0, dtype="int32")
    filters = e.file.constant(name, matrix.astype(np.int8), ones)
    return filters, e.file.constant(f"{name}/bias", np.zeros(outputs, np.int32), derived)
