"""`verify BUNDLE --on ssh://… --on adb:…`: export and verification over the wire, and what is said when it breaks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from command import edge_export
from devices.board import board
from devices.double import Double
from devices.phone import phone
from devices.remote_job import emulate

from exporter.verify.devices.benchmark_model import NO_OUTPUTS


@pytest.fixture(params=[board, phone], ids=["ssh", "adb"])
def host(request: pytest.FixtureRequest, tmp_path: Path):
    with request.param(tmp_path) as double:
        yield double


def verify(double: Double, shelf: Path, *options: object, name: str = ""):
    """With the double's client first on the command's PATH."""
    path = {"PATH": os.environ["PATH"]}
    return edge_export("verify", "int8", "--on", name or double.name, *options, cwd=shelf, environment=path)


def test_a_bundle_is_verified_there(host, shelf):
    done = verify(host, shelf, "--json")
    assert done.code == 0, done.err
    (row,) = done.json["devices"]
    assert (row["device"], row["samples"], row["problem"]) == (host.name, 4, None)
    assert [(c["equal"], c["max_lsb"]) for c in row["codes"]] == [(1.0, 0)]
    assert row["latency"]["int8"]["device"] == row["facts"]
    assert row["facts"]["kind"] == "real"
    assert {gate["passed"] for gate in done.json["gates"]} == {True}
    assert host.left == []


def test_a_bundle_is_verified_in_an_aarch64_userland_and_not_timed(tmp_path, shelf, arm64):
    with board(tmp_path) as host:
        emulate(host, "cortex-a53")
        done = verify(host, shelf, "--json")
        assert done.code == 0, done.err
        (row,) = done.json["devices"]
        assert (row["facts"]["machine"], row["facts"]["kind"]) == ("aarch64", "emulated")
        assert "Cortex-A53" in row["facts"]["processor"]
        assert [(c["equal"], c["max_lsb"]) for c in row["codes"]] == [(1.0, 0)]
        assert row["latency"] == {}
        assert host.left == []


def test_a_device_without_a_runtime_ends_with_7(host, shelf):
    host.module("ai_edge_litert/__init__.py", "raise ImportError('no wheel for this board')")
    host.module("tensorflow.py", "raise ImportError('nor this')")
    done = verify(host, shelf)
    assert done.code == 7
    assert f"error: {host.name} has no runtime for net.make.tflite" in done.err
    assert "no wheel for this board" in done.err
    assert "install ai-edge-litert" in done.err
    assert host.left == []


def test_a_device_that_is_not_there_ends_with_7(host, shelf):
    host.kill()
    done = verify(host, shelf)
    assert done.code == 7
    assert f"error: no connection to {host.name}" in done.err


def test_a_device_that_only_times_says_so(tmp_path, shelf):
    timer = tmp_path / "benchmark_model"
    source = (Path(__file__).parents[1] / "devices" / "benchmark_model.py").read_text()
    timer.write_text(f"#!/usr/bin/env -S -u LD_LIBRARY_PATH {sys.executable}\n{source}")
    (tmp_path / "phone").mkdir()
    with phone(tmp_path / "phone") as handset:
        name = f"{handset.name}?benchmark_model={timer}"
        done = verify(handset, shelf, "--json", name=name)
        assert done.code == 0, done.err
        (row,) = done.json["devices"]
        assert (row["samples"], row["codes"], row["notes"]) == (0, [], [NO_OUTPUTS])
        assert (row["latency"]["int8"]["runs"], row["latency"]["int8"]["p90_ms"]) == (20, None)
        assert done.json["gates"] == []
        said = verify(handset, shelf, name=name)
        assert said.code == 0
        assert NO_OUTPUTS in " ".join(said.out.split()), said.out
