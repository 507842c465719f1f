"""Places that cannot be written, a full disk, Ctrl-C: nothing half-written is left, and an older bundle stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import edge_export, spawn
from refusals import names, refused

INT8 = ("net:make", "--int8", "--size", "64")


def test_out_below_a_file(desk):
    (desk / "file").touch()
    refused(edge_export(*INT8, "--out", "file/bundle", cwd=desk), 2, "cannot write to file", "--out FOLDER elsewhere")
    assert names(desk) == {"net.py", "file"}


def test_out_is_a_file(desk):
    (desk / "file").write_text("mine")
    refused(edge_export(*INT8, "--out", "file", cwd=desk), 2, "file exists and is not a bundle of ours")
    assert (desk / "file").read_text() == "mine"


def test_out_is_somebody_elses_folder(desk):
    (desk / "photos").mkdir()
    (desk / "photos" / "cat.jpg").write_text("mine")
    refused(edge_export(*INT8, "--out", "photos", cwd=desk), 2, "photos exists and is not a bundle of ours")
    assert names(desk) == {"net.py", "photos"}
    assert names(desk / "photos") == {"cat.jpg"}


def test_a_failed_run_takes_the_folders_along_that_it_made(desk):
    refused(edge_export(*INT8, "--out", "a/b/c", "--calib", "nowhere", cwd=desk), 3, "nowhere does not exist")
    assert names(desk) == {"net.py"}


def test_a_failed_run_leaves_an_older_bundle_alone(desk):
    assert edge_export("net:make", "--size", 64, "--out", "bundle", cwd=desk).code == 0
    before = {path: path.read_bytes() for path in (desk / "bundle").rglob("*") if path.is_file()}
    refused(edge_export(*INT8, "--out", "bundle", "--calib", "nowhere", cwd=desk), 3, "nowhere does not exist")
    assert {path: path.read_bytes() for path in (desk / "bundle").rglob("*") if path.is_file()} == before
    assert names(desk) == {"net.py", "bundle"}


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
@pytest.mark.parametrize("limit", [1000, 20_000], ids=["at-the-model", "at-the-golden-files"])
def test_a_file_that_cannot_grow(desk, limit):
    refused(
        edge_export(*INT8, cwd=desk, file_limit=limit), 3, "cannot write the bundle out/net.make-int8", "File too large"
    )
    assert names(desk) == {"net.py"}


@pytest.fixture
def small_disk(desk: Path):
    """A disk of 16 kB, mounted at desk/disk."""
    place = desk / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_full_disk(desk, small_disk):
    done = edge_export(*INT8, "--out", "disk/bundle", cwd=desk)
    refused(done, 3, "cannot write the bundle disk/bundle", "No space left on device", "free some disk space")
    assert names(small_disk) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        pytest.param(signal.SIGINT, 130, "interrupted", id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, "terminated", id="sigterm"),
    ],
)
def test_interrupted_in_the_middle(desk, number, code, word):
    def hears_ctrl_c() -> None:  # a test run in the background ignores it, and what it starts inherits that
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = spawn("net:make", "--int8", "--size", 1024, cwd=desk, start_new_session=True, preexec_fn=hears_ctrl_c)
    assert process.stdout is not None
    while "calibration:" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    assert any(name.startswith(".net.make-int8-") for name in names(desk / "out")), "the scratch folder is there by now"
    time.sleep(0.2)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.strip() == f"{word}: nothing was written"
    assert names(desk) == {"net.py"}
