"""Operators one by one, on a device and here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tflite_files import int8_gates, int8_network, int8_product

from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices import apart as module
from exporter.verify.devices.apart import apart
from exporter.verify.devices.local import LocalDevice
from exporter.verify.runtimes.litert_file import read_file


def test_this_machine_does_not_differ_from_itself_and_every_operator_is_there(tmp_path):
    file = int8_network(tmp_path)
    rows = apart(LocalDevice(), file)
    ops = read_file(file).ops
    assert [row.op for row in rows] == [op.name for op in ops]
    assert [row.name for row in rows] == [read_file(file).tensors[op.outputs[0]].name for op in ops]
    assert all(row.differing == row.most == 0 for row in rows)


def test_what_xnnpack_fuses_stays_together(tmp_path):
    file = int8_gates(tmp_path)
    assert [op.name for op in read_file(file).ops].count("LOGISTIC") == 2
    rows = [row.op for row in apart(LocalDevice(), file)]
    assert "PAD" not in rows
    assert (rows.count("LOGISTIC"), rows.count("MUL")) == (1, 2)


def test_an_operator_that_computes_otherwise_is_found_alone(tmp_path, monkeypatch):
    """Another first convolution on the other side: what follows it in the file is not blamed."""
    real, calls = module.run_job, []

    def spoiled(there, job):
        ran = real(there, job)
        calls.append(there)
        if len(calls) == 2:
            outputs = {**ran.outputs[0], "output0": ran.outputs[0]["output0"] ^ np.int8(1)}
            return replace(ran, outputs=[outputs])
        return ran

    monkeypatch.setattr(module, "run_job", spoiled)
    rows = apart(LocalDevice(), int8_network(tmp_path))
    assert [row.op for row in rows if row.differing] == ["CONV_2D"]
    assert (rows[0].differing, rows[0].most) == (rows[0].elements, 1)


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
def test_on_an_emulated_core_only_products_round_otherwise(arm64, tmp_path: Path, core):
    for row in apart(device(f"arm64:{core}"), int8_gates(tmp_path)):
        assert row.most <= (1 if row.op == "MUL" else 0)


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76", "i8mm"])
def test_products_differ_at_exact_halves_alone(arm64, tmp_path: Path, core):
    """All pairs of codes: XNNPACK rounds a half to even on x86, and up on ARM."""
    codes = np.arange(-128, 128).astype(np.int8)
    a, b = (side.reshape(1, 256, 256, 1) for side in np.meshgrid(codes, codes))
    job = Job(int8_product(tmp_path), [{"a": a, "b": b}])
    exact = a.astype(np.float64) * b / 128
    here, there = (run_job(device(name), job).outputs[0]["y"] for name in ("local", f"arm64:{core}"))
    assert np.array_equal(here, np.clip(np.rint(exact), -128, 127))
    assert np.array_equal(there, np.clip(np.floor(exact + 0.5), -128, 127))
    assert 0 < np.count_nonzero(here != there) <= np.count_nonzero(exact % 1 == 0.5)
