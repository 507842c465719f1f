"""The vocabulary itself: every op has its test file, its integer arithmetic and its spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.ir.integer import INTEGER
from exporter.ir.ops import OPS, Layout, Scale, op
from exporter.lower import NAMES, coreml, onnx, tflite
from exporter.quantize.expand import EXPANSIONS

FOLDED = {"batch_norm"}
"""Ops that no target writes: simplify removes every one."""
EXPANDED = {"layer_norm", *EXPANSIONS}
"""Ops that quantize replaces by others."""


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_test_file_that_runs_it_in_float_and_int8(name):
    text = (Path(__file__).parent / f"test_{name}.py").read_text()
    assert "check_int8" in text
    assert "check_float" in text or name in ("quantize", "dequantize")


@pytest.mark.parametrize("spellings", [tflite.SPELLINGS, onnx.SPELLINGS, coreml.SPELLINGS], ids=NAMES)
def test_every_op_has_a_spelling_in_every_format(spellings):
    assert set(spellings) == set(OPS) - FOLDED


def test_every_op_has_integer_arithmetic():
    floats = {name for name, row in OPS.items() if row.scale is Scale.FLOAT}
    assert set(INTEGER) == set(OPS) - FOLDED - EXPANDED - floats


def test_fixed_ops_alone_have_fixed_parameters():
    assert {name for name, row in OPS.items() if row.fixed} == {n for n, row in OPS.items() if row.scale is Scale.FIXED}


def test_registering_an_op_twice_is_an_error():
    def relu(x):
        return x

    with pytest.raises(ValueError, match="relu is registered twice"):
        op(Scale.FREE, Layout.TRANSPARENT)(relu)
