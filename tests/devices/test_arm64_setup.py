"""`edge-export setup arm64`: from an empty cache without root, and what breaks it leaves a cache that can go on."""

from __future__ import annotations

import json
import os
import shutil
import site
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flawed_proxy import flawed_proxy
from rich.console import Console
from tflite_files import int8_network
from typer.testing import CliRunner

import exporter
from exporter.cli import app
from exporter.errors import RuntimeUnavailable
from exporter.progress import Stages
from exporter.report.setup import print_setup
from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.arm64 import home, packages, place, read_setup, set_up, setup
from exporter.verify.devices.arm64.clients import failed
from exporter.verify.devices.arm64.plugin import NotBuilt, build
from exporter.verify.devices.arm64.wheels import LITERT, OLDEST, ONNX, sites
from exporter.verify.runtimes.litert import LiteRT

NOBODY = 65534


@pytest.fixture
def copy(arm64_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A finished setup of one's own, to take parts away from; hard links, as nothing is written in place."""
    folder = Path(tempfile.mkdtemp(dir=arm64_cache, prefix="copy-"))
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(folder))
    shutil.copytree(arm64_cache / "arm64", folder / "arm64", symlinks=True, copy_function=os.link)
    yield folder / "arm64"
    shutil.rmtree(folder)


def without(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name)


def works(tmp_path: Path) -> None:
    """A file runs on a core."""
    file = int8_network(tmp_path)
    info = LiteRT(file).inputs[0]
    feed = {info.name: np.random.default_rng(0).integers(-128, 128, info.shape, np.int8)}
    assert run_job(device("arm64:cortex-a53"), Job(file, [feed])).outputs


# --- a network, a disk, a compiler that is not there ------------------------------------------------------------------
def test_a_network_that_goes_away_names_the_wheel_and_a_second_run_completes(copy, tmp_path, monkeypatch):
    without(copy, f"site/{OLDEST}")
    with monkeypatch.context() as patch, flawed_proxy(budget=2_000_000) as proxy:
        for name, value in proxy.items():
            patch.setenv(name, value)
        with pytest.raises(RuntimeUnavailable) as error:
            set_up(Stages())
    assert "tflite-runtime==2.14.0" in str(error.value)
    assert "again" in str(error.value)
    with pytest.raises(RuntimeUnavailable, match="edge-export setup arm64"):
        run_job(device("arm64"), Job(tmp_path / "x", []))
    assert set_up(Stages()).runtimes[OLDEST] == "2.14.0"
    works(tmp_path)


@pytest.mark.slow
def test_broken_packages_are_told_and_a_last_run_completes(copy, tmp_path, monkeypatch):
    """No network; an index that Debian did not sign; a network that goes away; other packages than were named."""
    without(copy, place.USERLAND)
    flaws = (
        ({"budget": 0}, "apt cannot read Debian's index"),
        ({"corrupt": "InRelease"}, "apt cannot read Debian's index"),
        ({"budget": 20_000_000}, "apt cannot download"),
        ({"corrupt": "_arm64.deb"}, "Hash Sum mismatch"),
    )
    for flaw, said in flaws:
        with monkeypatch.context() as patch, flawed_proxy(**flaw) as proxy:
            for name, value in proxy.items():
                patch.setenv(name, value)
            with pytest.raises(RuntimeUnavailable) as error:
                set_up(Stages())
        assert said in str(error.value)
        assert not (copy / place.USERLAND).exists()
    set_up(Stages())
    works(tmp_path)


def test_without_gcc_accuracy_works_and_counting_says_why_not(copy, tmp_path, monkeypatch):
    without(copy, "counting")
    few = tmp_path / "bin"
    few.mkdir()
    for name in ("apt-get", "apt-config", "dpkg-deb", "tar"):
        (few / name).symlink_to(str(shutil.which(name)))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(few))
        done = set_up(Stages())
        assert "gcc is not installed" in done.not_counting
        assert not device("arm64").can_count
        works(tmp_path)
    assert set_up(Stages()).not_counting == ""
    assert device("arm64").can_count


def test_a_part_that_somebody_took_away_is_named_with_the_way_out(copy):
    (copy / place.EMULATOR / packages.QEMU).unlink()
    with pytest.raises(RuntimeUnavailable, match=r"rm -r .*arm64, then edge-export setup arm64"):
        set_up(Stages())


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    broken = tmp_path / "gcc"
    broken.write_text("#!/bin/sh\necho 'cc1: out of memory' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NotBuilt, match="cc1: out of memory"):
        build("qemu-aarch64 7.2.22", tmp_path)


def test_a_disk_with_too_little_room_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(setup, "NEEDED", usage.free * 2)
    with pytest.raises(RuntimeUnavailable, match=r"MB are free"):
        set_up(Stages())
    assert [path.name for path in home().iterdir()] == ["lock"]


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle_is_told_and_with_room_a_second_run_completes(arm64_cache, tmp_path):
    """A real file system that is too small, and then larger."""
    small = tmp_path / "small"
    small.mkdir()
    program = "from exporter.verify.devices.arm64 import setup; setup.NEEDED = 0; from exporter.cli import main; main()"
    command = f'{sys.executable} -c "{program}" setup arm64 --quiet'
    script = f"""
        mount -t tmpfs -o size=45m tmpfs {small} || exit 99
        export EDGE_EXPORT_CACHE={small}
        {command} 2>{tmp_path}/first; echo $? >{tmp_path}/codes
        mount -o remount,size=140m {small}
        {command} 2>{tmp_path}/second; echo $? >>{tmp_path}/codes
        mount -o remount,size=1g {small}
        {command} 2>{tmp_path}/third; echo $? >>{tmp_path}/codes
    """
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], check=False)
    if done.returncode in (1, 99):
        pytest.skip("this machine lets nobody mount a file system in a namespace of its own")
    assert (tmp_path / "codes").read_text().split() == ["7", "7", "0"]
    for name in ("first", "second"):
        assert "the disk is full" in (tmp_path / name).read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path / "closed"))
    (tmp_path / "closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RuntimeUnavailable, match="cannot write to"):
        set_up(Stages())


def test_a_cache_that_is_a_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RuntimeUnavailable, match="cannot write to"):
        set_up(Stages())


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
def test_a_machine_without_debians_clients_is_told(tmp_path, monkeypatch, missing):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in {"apt-get", "apt-config", "dpkg-deb", "tar"} - {missing}:
        (tmp_path / name).symlink_to("/bin/true")
    with pytest.raises(RuntimeUnavailable, match=f"{missing} is not on this machine"):
        set_up(Stages())


def test_a_machine_without_debians_keys_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    monkeypatch.setattr(packages, "KEYRING", tmp_path / "none.gpg")
    with pytest.raises(RuntimeUnavailable, match="debian-archive-keyring"):
        set_up(Stages())


@pytest.mark.parametrize("machine", [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "aarch64")])
def test_another_machine_is_told_what_it_can_do(monkeypatch, machine):
    monkeypatch.setattr("platform.system", lambda: machine[0])
    monkeypatch.setattr("platform.machine", lambda: machine[1])
    with pytest.raises(RuntimeUnavailable, match="runs on Linux x86_64"):
        set_up(Stages())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("E: You don't have enough free space in /x.", "the disk is full"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("Reading...\nE: Failed to fetch x\nE: Unable to fetch some archives", "E: Failed to fetch x"),
        ("", "exit code 100"),
    ],
)
def test_what_a_client_said(said, told):
    assert told in str(failed("apt failed", said, 100))


# --- the whole of it --------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_from_an_empty_cache_without_root_in_three_minutes(arm64_cache):
    """A user who owns nothing but the cache; nothing is left anywhere else."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        own, elsewhere = Path(folder, "cache"), Path(folder, "home")
        for path in (Path(folder), own, elsewhere):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        environment = {**os.environ, "EDGE_EXPORT_CACHE": str(own), "HOME": str(elsewhere), "TMPDIR": str(elsewhere)}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(exporter.__file__).parents[1]), *site.getsitepackages()])
        python = unprivileged_python(environment)
        command = [*python, "-m", "exporter.cli", "setup", "arm64", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["folder"] == str(own / "arm64")
        assert told["runtimes"] == {name: number for needs in sites().values() for name, number in pinned(needs)}
        assert told["not_counting"] == ""
        assert not list(elsewhere.iterdir())
        assert sorted(path.name for path in own.iterdir()) == ["arm64"]
        assert 200e6 < told["size"] < 500e6


def unprivileged_python(environment: dict[str, str]) -> list[str]:
    """A Python that has everything and is no root's; the one that runs here may lie where only root can read."""
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    program = (
        "import subprocess, sys, exporter.cli; subprocess.run([sys.executable, '-m', 'pip', '--version'], check=True)"
    )
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        done = subprocess.run([*drop, python, "-c", program], env=environment, capture_output=True, check=False)
        if done.returncode == 0:
            return [*drop, python]
    pytest.skip("no Python with what this project needs can be run without root here")


def pinned(needs: list[str]) -> list[tuple[str, str]]:
    """Name and version, numpy left aside."""
    return [(name, number) for name, number in (need.split("==") for need in needs) if name != "numpy"]


def test_what_was_fetched_is_recorded_with_its_hash(arm64):
    done = read_setup()
    names = " ".join(package.name for package in done.packages)
    for part in ("qemu-user_", "libc6_", "_arm64.deb", "ai_edge_litert-", "onnxruntime-", "tflite_runtime-2.14.0-"):
        assert part in names
    assert all(package.size > 0 and len(package.sha256) == 64 for package in done.packages)


def test_a_second_run_fetches_nothing_and_says_what_there_is(copy, monkeypatch):
    before = read_setup()
    with flawed_proxy(budget=0) as proxy:
        for name, value in proxy.items():
            monkeypatch.setenv(name, value)
        told = json.loads(CliRunner().invoke(app, ["setup", "arm64", "--json"]).stdout)
    assert read_setup() == before
    assert told["emulator"].startswith("qemu-aarch64 7.2.")
    assert list(told["runtimes"]) == [LITERT, ONNX, OLDEST]


def test_what_is_shown_of_it(arm64):
    with (shown := Console(width=200)).capture() as text:
        print_setup(read_setup(), shown)
    for said in ("qemu-aarch64 7.2.", "ai-edge-litert", "instructions and bytes", "arm64:cortex-a53", str(home())):
        assert said in text.get()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "folder"

    def half(part: Path) -> None:
        (part / "first").touch()
        raise RuntimeUnavailable("broke off")

    with pytest.raises(RuntimeUnavailable):
        place.make(folder, "one", half)
    assert not folder.exists()
    place.make(folder, "one", lambda part: (part / "first").write_text("1"))
    place.make(folder, "one", half)  # made of the same: not touched
    assert (folder / "first").read_text() == "1"
    place.make(folder, "two", lambda part: (part / "second").write_text("2"))
    assert [path.name for path in folder.iterdir()] == ["second"]


def test_an_apt_without_debians_suite_asks_for_a_mirror(tmp_path, monkeypatch):
    configuration = tmp_path / "apt.conf"
    configuration.write_text('Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    with pytest.raises(RuntimeUnavailable, match="knows no mirror of Debian bookworm") as caught:
        packages.mirror()
    assert "EDGE_EXPORT_DEBIAN=" in str(caught.value)
    monkeypatch.setenv("EDGE_EXPORT_DEBIAN", "http://127.0.0.1/debian/")
    assert packages.mirror() == "http://127.0.0.1/debian/"
