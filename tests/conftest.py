"""One thread, one seed: every test computes the same numbers alone or in company."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import urllib.request
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the commands that tests start: several of them share the processors
logging.getLogger("torch.__trace").propagate = False  # torch.export's own trace, under every failing test


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def arm64_cache(request: pytest.FixtureRequest) -> Path:
    """A cache folder with the arm64 emulator in it: this machine's own, or one that all runs of the tests share."""
    from exporter.build.download import cache_folder
    from exporter.errors import RuntimeUnavailable
    from exporter.progress import Stages
    from exporter.verify.devices.arm64 import Arm64Device, set_up
    from exporter.verify.devices.arm64.packages import mirror

    try:
        with Arm64Device("arm64").workspace():
            return cache_folder()
    except RuntimeUnavailable:
        needed = [program for program in ("apt-get", "dpkg-deb") if shutil.which(program) is None]
        if needed or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            pytest.skip(f"the arm64 emulator needs Linux on x86_64 with {' and '.join(needed) or 'apt'}")
    try:
        urllib.request.urlopen(f"{mirror()}/dists/bookworm/InRelease", timeout=10).close()
    except (OSError, RuntimeUnavailable) as error:
        pytest.skip(f"the arm64 emulator is not set up, and no mirror of Debian can be reached: {error}")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("edge-export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_EXPORT_CACHE", str(folder))
        set_up(Stages())  # one worker at a time; the others find it done
    return folder


@pytest.fixture
def arm64(arm64_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that run on `arm64`."""
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(arm64_cache))
