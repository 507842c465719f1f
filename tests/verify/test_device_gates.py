"""Devices that compute otherwise, cost more, or go away: the gate that fails, exit code, JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from small_detector import SmallDetector
from test_spoiled import Net, other_weights

from exporter import export
from exporter.errors import DataError, ExportError, RuntimeUnavailable
from exporter.recipe import Gates
from exporter.report import check_junit
from exporter.verify.baseline import counts_before
from exporter.verify.bundle import BundleCheck, OnDevices, verify_bundle
from exporter.verify.device_gates import judge_devices
from exporter.verify.devices.facts import Counts, EmulatedDevice
from exporter.verify.devices.local import LocalDevice, LocalWorkspace
from exporter.verify.on_device import DeviceCheck
from exporter.verify.runtimes.litert_file import read_file


class OtherWorkspace(LocalWorkspace):
    """Every model that arrives here has other weights: what a device does whose kernels are wrong."""

    def push(self, source: Path) -> None:
        super().push(source)
        if source.suffix == ".tflite":
            other_weights(self.folder / source.name)


class GoneWorkspace(LocalWorkspace):
    """The device goes away before the result is fetched."""

    def pull(self, name: str, place: Path) -> None:
        raise RuntimeUnavailable("the board went away", try_="plug it in")


@dataclass
class Odd:
    """This machine under another name, with a workspace of `kind`."""

    name: str
    kind: type[LocalWorkspace]
    emulator: str = ""
    can_count: bool = False

    @contextmanager
    def workspace(self) -> Iterator[LocalWorkspace]:
        with LocalDevice().workspace() as there:
            yield self.kind(there.folder)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """`int8/` and `float/` of one network, `detector/` with NMS; tests only read them."""
    folder = tmp_path_factory.mktemp("shelf")
    torch.manual_seed(0)
    net, image = Net().eval(), torch.zeros(1, 3, 48, 48)
    common = {"calibration": {"limit": 8}, "name": "net"}
    export(net, image, int8=True, out=folder / "int8", **common)
    export(net, image, out=folder / "float", **common)
    nms = {"postprocess": "nms", "nms": {"score_threshold": 0.3}}
    export(SmallDetector().eval(), image, out=folder / "detector", **common, **nms)
    return folder


def ended(check: BundleCheck) -> tuple[int, ElementTree.Element]:
    """Exit code, and the JUnit XML."""
    junit = ElementTree.fromstring(check_junit(check))
    try:
        check.raise_on_failure()
    except ExportError as error:
        assert not check.passed
        return error.exit_code, junit
    assert check.passed
    return 0, junit


def failures(junit: ElementTree.Element) -> dict[tuple[str, str], str]:
    """Suite and name of every failed case -> message."""
    cases = ((case, case.find("failure")) for case in junit.iter("testcase"))
    return {(case.get("classname"), case.get("name")): why.get("message") for case, why in cases if why is not None}


EQUAL, LSB = "tflite: codes equal to this machine's", "tflite: difference from this machine"
CASES = {
    "int8": {EQUAL: r"\d\.\d{4}%, must be >= 99\.9000%", LSB: r"\d\d+ LSB, must be <= 1 LSB"},
    "float": {"tflite: SNR against this machine": r"-\d\.\d dB, must be >= 90 dB"},
    "detector": {"tflite: detections of this machine": r"\d+\.\d\d%, must be >= 99\.00%"},
}


@pytest.mark.parametrize(("bundle", "expected"), CASES.items(), ids=CASES)
def test_a_device_that_computes_otherwise_fails_the_accuracy_gates(shelf, bundle, expected):
    code, junit = ended(verify_bundle(shelf / bundle, OnDevices([LocalDevice()])))
    assert (code, junit.get("failures")) == (0, "0")
    code, junit = ended(verify_bundle(shelf / bundle, OnDevices([LocalDevice(), Odd("odd", OtherWorkspace)])))
    found = failures(junit)
    assert code == 5
    assert found.keys() == {("odd", name) for name in expected}
    assert all(re.match(text, found["odd", name]) for name, text in expected.items())


def test_the_operator_that_differs_is_named(shelf):
    check = verify_bundle(shelf / "int8", OnDevices([LocalDevice(), Odd("odd", OtherWorkspace)]))
    here, odd = check.devices
    assert here.differing == ()
    (said,) = odd.differing
    assert re.fullmatch(r"CONV_2D body\.0/conv2d: \d+ LSB in \d[\d.]+ % of its codes, operands equal", said)
    with pytest.raises(ExportError, match=r"odd tflite: differs first at CONV_2D body"):
        check.raise_on_failure()
    (failure,) = (f for f in ElementTree.fromstring(check_junit(check)).iter("failure") if "LSB, must" in f.text)
    assert failure.text.splitlines()[1] == f"differs first at {said}"


def test_a_device_that_goes_away_is_an_error_and_the_others_are_judged(shelf):
    check = verify_bundle(shelf / "int8", OnDevices([Odd("board", GoneWorkspace), LocalDevice()]))
    code, junit = ended(check)
    assert (code, junit.get("errors"), junit.get("failures")) == (7, "1", "0")
    (error,) = junit.iter("error")
    assert error.get("message") == "the board went away"
    assert "plug it in" in error.text
    assert {gate.device for gate in check.gates} == {"local"}


def test_an_accuracy_gate_decides_when_a_device_is_gone_too(shelf):
    devices = [Odd("board", GoneWorkspace), Odd("odd", OtherWorkspace)]
    assert ended(verify_bundle(shelf / "int8", OnDevices(devices)))[0] == 5


def test_int8_that_is_slow_on_a_device_fails_the_latency_gate(shelf, tmp_path):
    torch.manual_seed(0)
    export(Net(24).eval(), torch.zeros(1, 3, 48, 48), int8=True, out=tmp_path, name="net", calibration={"limit": 8})

    class SlowWorkspace(LocalWorkspace):
        """An int8 file takes as long here as one with 25 convolutions."""

        def push(self, source: Path) -> None:
            int8 = source.suffix == ".tflite" and not read_file(source).float_ops[1:-1]
            super().push(tmp_path / "net.tflite" if int8 else source)

    asked = OnDevices([LocalDevice(), Odd("slow", SlowWorkspace)], twin=shelf / "float")
    check = verify_bundle(shelf / "int8", asked)
    costs = Gates(latency_ratio=6.0, device_equal=None, device_lsb=None)  # its codes are another network's
    code, junit = ended(check.model_copy(update={"gates": judge_devices(check.devices, costs)}))
    assert code == 6
    ((place, said),) = failures(junit).items()
    assert place == ("slow", "tflite: int8 / float time")
    assert re.match(r"\d+\.\d\d, must be <= 6 \(latency\)", said)


# --- instructions -----------------------------------------------------------------------------------------------------
A53 = EmulatedDevice(name="arm64:cortex-a53", machine="aarch64", processor="Cortex-A53", emulator="qemu-aarch64 7.2")


def counted(instructions: int, runtime: str = "ai-edge-litert 2.3.0 (xnnpack)") -> DeviceCheck:
    counts = {"int8": Counts(device=A53, instructions=instructions, loaded_bytes=10, stored_bytes=5)}
    return DeviceCheck(device=A53.name, target="tflite", file="net.tflite", facts=A53, runtime=runtime, counts=counts)


@pytest.mark.parametrize(
    ("now", "runtime", "value", "passed"),
    [
        (1_000_900, "", "+0.090%", True),
        (1_001_100, "", "+0.110%", False),
        (990_000, "", "-1.000%", True),
        (1_100_000, "ai-edge-litert 2.4.0 (xnnpack)", "+10.000% (baseline: ai-edge-litert 2.3.0 (xnnpack))", False),
    ],
)
def test_instructions_may_rise_by_a_thousandth_of_the_baselines(now, runtime, value, passed):
    row = counted(now, runtime) if runtime else counted(now)
    (gate,) = judge_devices([row], Gates(), [counted(1_000_000)])
    assert (gate.name, gate.value, gate.passed, gate.family) == ("int8 instructions", value, passed, "instructions")
    check = BundleCheck(folder="net", model="net", files=0, devices=(row,), gates=(gate,))
    code, junit = ended(check)
    assert (code, junit.get("failures")) == ((0, "0") if passed else (6, "1"))
    assert [failure.get("message") for failure in junit.iter("failure")] == (
        [] if passed else [f"{value}, must be <= +0.100% (instructions)"]
    )


def test_without_a_baseline_instructions_are_not_judged():
    assert judge_devices([counted(1_000_000)], Gates()) == ()
    assert judge_devices([counted(2_000_000)], Gates(instructions=None), [counted(1_000_000)]) == ()


BASELINES = {
    "absent": (None, "cannot read"),
    "no-json": ("{", "is not the JSON of verify"),
    "a-report": ('{"model": "net"}', "is not the JSON of verify"),
}


@pytest.mark.parametrize(("text", "said"), BASELINES.values(), ids=BASELINES)
def test_a_baseline_that_is_none(shelf, tmp_path, text, said):
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        counts_before(path, shelf / "int8", [Odd(A53.name, LocalWorkspace, can_count=True)])
    assert "edge-export verify BUNDLE --on DEVICE --json > FILE" in str(caught.value)


def test_a_baseline_without_what_is_compared(shelf, tmp_path):
    path, device = tmp_path / "baseline.json", Odd(A53.name, LocalWorkspace, can_count=True)
    check = verify_bundle(shelf / "int8")
    path.write_text(check.model_dump_json())
    with pytest.raises(DataError, match="no instructions to compare with") as caught:
        counts_before(path, shelf / "int8", [device])
    assert "tflite on arm64:cortex-a53" in str(caught.value)
    path.write_text(check.model_copy(update={"devices": (counted(5),)}).model_dump_json())
    assert counts_before(path, shelf / "int8", [device]) == (counted(5),)
    path.write_text(check.model_copy(update={"model": "another"}).model_dump_json())
    with pytest.raises(DataError, match="of another model"):
        counts_before(path, shelf / "int8", [device])
