"""`verify --on arm64`: the genuine aarch64 runtimes, in codes and in instructions."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command import edge_export
from refusals import refused

CORES = ("arm64:cortex-a53", "arm64:cortex-a76")


@pytest.fixture
def run(arm64_cache: Path):
    """`edge-export` with the emulator in its cache."""
    return lambda *words, cwd: edge_export(*words, cwd=cwd, environment={"EDGE_EXPORT_CACHE": str(arm64_cache)})


@pytest.mark.slow
def test_codes_equal_this_machines_and_instructions_are_held_against_a_baseline(shelf, desk, run):
    shutil.copytree(shelf / "int8", desk / "int8")
    on = [word for core in CORES for word in ("--on", core)]
    done = run("verify", "int8", *on, "--json", cwd=desk)
    assert done.code == 0, done.err
    rows = {row["device"]: row for row in done.json["devices"]}
    assert list(rows) == list(CORES)
    for row in rows.values():
        assert (row["facts"]["kind"], row["facts"]["machine"], row["samples"]) == ("emulated", "aarch64", 4)
        assert [(codes["equal"], codes["max_lsb"]) for codes in row["codes"]] == [(1.0, 0)]
        assert row["latency"] == {}, "emulated time is no latency"
        counts = row["counts"]["int8"]
        assert 0 < sum(op["instructions"] for op in counts["ops"]) <= counts["instructions"]
    first, second = (row["counts"]["int8"]["instructions"] for row in rows.values())
    assert second < first, "a Cortex-A76 has dot products"

    (desk / "baseline.json").write_text(done.out)
    again = run("verify", "int8", "--on", CORES[1], "--baseline", "baseline.json", cwd=desk)
    assert again.code == 0, again.err
    for text in ("int8 instructions", "3 of 3 gates held", "Counted under emulation", "CONV_2D"):
        assert text in again.out

    deeper = (desk / "net.py").read_text().replace("return self.body(y) + y", "return self.body(self.body(y)) + y")
    (desk / "net.py").write_text(deeper)
    assert edge_export("net:make", "--int8", "--size", 64, "--out", "deeper", "-q", cwd=desk).code == 0
    spoiled = run("verify", "deeper", "--on", CORES[1], "--baseline", "baseline.json", "--junit", "junit.xml", cwd=desk)
    refused(spoiled, 6, "1 of 3 gates failed", "arm64:cortex-a76 tflite: int8 instructions")
    (failure,) = ElementTree.parse(desk / "junit.xml").getroot().iter("failure")
    assert failure.get("message").endswith("must be <= +0.100% (instructions)")
    compared = edge_export("compare", "int8", "deeper", cwd=desk)
    assert "ops" in compared.out

    (desk / "without.json").write_text(edge_export("verify", "int8", "--json", cwd=desk).out)
    absent = run("verify", "int8", "--on", CORES[1], "--baseline", "without.json", cwd=desk)
    refused(absent, 3, "without.json has no instructions to compare with", f"tflite on {CORES[1]}")


def test_a_device_that_is_not_set_up_ends_in_7_and_the_others_are_told(shelf, tmp_path):
    junit = tmp_path / "junit.xml"
    arguments = ("verify", "int8", "--on", "arm64", "--on", "local", "--junit", junit)
    done = edge_export(*arguments, cwd=shelf, environment={"EDGE_EXPORT_CACHE": str(tmp_path / "empty")})
    refused(done, 7, "edge-export setup arm64")
    assert "2 of 2 gates held" in done.out
    root = ElementTree.parse(junit).getroot()
    assert (root.get("errors"), root.get("failures")) == ("1", "0")
    assert "edge-export setup arm64" in next(root.iter("error")).text
