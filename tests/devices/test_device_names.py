"""`--on NAME`: what is read out of a name, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.errors import UsageError
from exporter.verify.devices import device
from exporter.verify.devices.ssh import SshDevice


@pytest.mark.parametrize(
    ("name", "host", "port", "user", "python", "cores"),
    [
        ("ssh://board", "board", None, None, "", ()),
        ("ssh://pi@board.local:2222", "board.local", 2222, "pi", "", ()),
        ("ssh://pi@[::1]:22", "::1", 22, "pi", "", ()),
        ("ssh://pi@board?python=/home/pi/venv/bin/python", "board", None, "pi", "/home/pi/venv/bin/python", ()),
        ("ssh://board?python=python3.11&cores=0,4-7", "board", None, None, "python3.11", (0, 4, 5, 6, 7)),
    ],
)
def test_hosts(name: str, host: str, port: int | None, user: str | None, python: str, cores: tuple[int, ...]) -> None:
    found: Any = device(name)
    assert isinstance(found, SshDevice)
    assert (found.host, found.port, found.user) == (host, port, user)
    assert (found.options.python, found.options.cores) == (python, cores)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ssh://pi@board?python=/home/pi/venv/bin/python", "ssh://pi@board"),
        ("adb:R5CT12345?python=/data/local/tmp/python&cores=4-6", "adb:R5CT12345?cores=4,5,6"),
        (f"adb?benchmark_model={__file__}", "adb"),
        ("adb:127.0.0.1:5555", "adb:127.0.0.1:5555"),
    ],
)
def test_the_name_in_reports_holds_no_paths(name: str, short: str) -> None:
    assert device(name).name == short


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("board", "no device is called 'board'"),
        ("shh://board", "did you mean ssh?"),
        ("ssh:board", "is no address of a host"),
        ("ssh://", "is no address of a host"),
        ("ssh://board/home/pi", "is no address of a host"),
        ("ssh://-oProxyCommand=x", "is no address of a host"),
        ("ssh://-x@board", "is no address of a host"),
        ("ssh://board:port", "is no address"),
        ("ssh://pi:secret@board", "holds a password"),
        ("ssh://board?pyhton=python3", "did you mean python?"),
        ("ssh://board?cores=", "is no list of cores"),
        ("ssh://board?cores=4-", "is no list of cores"),
        ("ssh://board?python=venv/bin/python", "is relative to nothing"),
        ("adb:", "no device is called 'adb:'"),
        ("adb?benchmark_model=/no/such", "there is no file /no/such"),
        ("adb:X?cors=1", "did you mean cores?"),
        ("local?cores=1", "no device is called 'local?cores=1'"),
    ],
)
def test_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        device(name)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)
