"""The oldest iOS of every precision, and what --min-os makes of it."""

from __future__ import annotations

import pytest
from coreml_files import specification, written
from parity import image, simplified
from torch import nn

from exporter.errors import UsageError
from exporter.lower.coreml import CoreML, needs
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

X = image(1, 3, 8, 8)


def graph(precision: str):
    found = simplified(nn.Conv2d(3, 4, 3), X)
    if precision == "int8":
        quantize(found, calibrate(found, [(X,)], "minmax"), io="float")
    return found


OLDEST = {"float32": 15, "float16": 15, "weights-int8": 16, "int8": 17}
COMPRESSED = {"constexpr_affine_dequantize": range(16, 18), "constexpr_blockwise_shift_scale": range(18, 19)}


@pytest.mark.parametrize("min_os", [None, 15, 16, 17, 18])
@pytest.mark.parametrize("precision", OLDEST)
def test_min_os(precision, min_os):
    assert needs(graph(precision), precision)[0] == OLDEST[precision]
    if min_os is not None and min_os < OLDEST[precision]:
        with pytest.raises(UsageError, match=f"{precision} needs iOS {OLDEST[precision]}"):
            CoreML(min_os).opset(precision)
        return
    wanted = min_os or OLDEST[precision]
    with written(graph(precision), precision, min_os) as path:
        model = specification(path)
    assert model.specificationVersion == wanted - 9
    function = model.mlProgram.functions["main"]
    assert function.opset == f"CoreML{wanted - 10}"
    kinds = {o.type for o in function.block_specializations[function.opset].operations}
    stored = precision in ("int8", "weights-int8")
    for kind, versions in COMPRESSED.items():
        assert (kind in kinds) == (stored and wanted in versions)


@pytest.mark.parametrize("min_os", [14, 19, 26])
def test_an_ios_that_no_file_is_written_for(min_os):
    with pytest.raises(UsageError, match=f"iOS {min_os}"):
        CoreML(min_os)
