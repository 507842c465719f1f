"""`exporter.export` and `exporter.load_recipe`, as a Python user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import exporter
from exporter.errors import UnsupportedError, UsageError
from exporter.verify.runtimes.litert_file import read_file


class Small(nn.Module):
    """A convolution, a BatchNorm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Writes(Small):
    """Changes its input in place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5).mul_(2.0) + torch.arange(3.0).reshape(3, 1, 1))


class Two(nn.Module):
    """Two inputs."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right + left


IMAGE = torch.zeros(1, 3, 32, 32)


def test_a_module_is_exported_and_left_as_it_was(tmp_path: Path) -> None:
    module = Small().train()
    result = exporter.export(module, IMAGE, int8=True, out=tmp_path / "out")
    assert result.report.verification is not None
    assert result.report.verification.passed
    assert result.report.parameters == sum(p.numel() for p in module.parameters())
    assert result.report.macs == 8 * 27 * 16 * 16 + 8 * 4
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert read_file(result.folder / "small.tflite").float_ops[0].name == "QUANTIZE"


def test_a_module_that_writes_to_its_input_passes_its_gates(tmp_path: Path) -> None:
    result = exporter.export(Writes(), IMAGE, out=tmp_path / "out")
    assert result.report.verification is not None
    assert result.report.verification.passed


def test_two_inputs_are_calibrated_from_arrays_named_after_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(9, 1, 6)).astype(np.float32) for name in ("left", "right")}
    np.savez(tmp_path / "samples.npz", **{k: v.reshape(9, 6) for k, v in arrays.items()})
    example = (torch.zeros(1, 6), torch.zeros(1, 6))
    result = exporter.export(
        Two(), example, int8=True, calib=tmp_path / "samples.npz", out=tmp_path / "out", preprocess={"size": (1, 1)}
    )
    assert list(result.report.input_shapes) == ["left", "right"]


def test_pictures_for_a_one_channel_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"do not fit the model's inputs"):
        exporter.export(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 16, 16), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_beside_a_recipe_are_refused() -> None:
    with pytest.raises(UsageError, match="precision"):
        exporter.export(exporter.load_recipe("efficientdet_d0"), int8=True)


def test_wrong_settings_of_a_module_end_in_one_message() -> None:
    with pytest.raises(UsageError, match="colour"):
        exporter.export(Small(), IMAGE, colour="blue")


def test_a_module_class_in_place_of_a_module_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot export Small, which is no nn\.Module"):
        exporter.export(Small, IMAGE)  # type: ignore[arg-type]


@pytest.mark.parametrize("example", [{"x": IMAGE}, ([IMAGE],), (IMAGE, None), IMAGE.numpy()], ids=type)
def test_example_inputs_that_are_no_tensors_are_refused(example: object) -> None:
    with pytest.raises(UsageError, match="example inputs must be tensors"):
        exporter.export(Small(), example)  # type: ignore[arg-type]


def test_weights_in_another_dtype_say_what_to_call(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        exporter.export(Small().half(), IMAGE, out=tmp_path / "out")
    assert caught.value.try_ == ("module.float(): it has weights in torch.float16",)


def test_an_example_in_another_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input 0 is torch.float64, not float32"):
        exporter.export(Small().double(), IMAGE.double(), out=tmp_path / "out")


def test_none_switches_a_gate_off() -> None:
    assert exporter.load_recipe("efficientdet_d0", gates={"float_snr": None}).gates.float_snr is None
    assert exporter.load_recipe("efficientdet_d0", gates={"int8_snr": 9}).gates.float_snr == 90


def test_an_output_that_drowns_in_int8_is_called_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    crushed = nn.Sequential(nn.Conv2d(3, 600, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    result = exporter.export(crushed, IMAGE, int8=True, out=tmp_path / "out")
    assert result.report.verification is not None
    (warning,) = (w for w in result.report.verification.warnings if "dB in int8" in w)
    assert "output" in warning


def test_an_output_that_never_changes_in_int8_is_called_out(tmp_path: Path) -> None:
    """One of 600 classes: a probability that int8 cannot tell from zero."""
    torch.manual_seed(0)
    crushed = nn.Sequential(nn.Conv2d(3, 600, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classes = crushed

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            scores = self.classes(x)
            return {"one": scores[:, :1], "all": scores}

    result = exporter.export(One(), IMAGE, int8=True, out=tmp_path / "out", check=False)
    assert result.report.verification is not None
    found = [w for w in result.report.verification.warnings if "one code on every sample" in w]
    assert [w.split()[1] for w in found] == ["one"]


@pytest.mark.parametrize("precision", [{}, {"int8": True}, {"fp16": True}], ids=["float32", "int8", "float16"])
def test_the_same_model_as_onnx(tmp_path: Path, precision: dict[str, bool]) -> None:
    torch.manual_seed(0)
    result = exporter.export(Small(), IMAGE, target="onnx", out=tmp_path / "out", **precision)
    found = result.report.verification
    assert found is not None
    assert found.passed
    assert (tmp_path / "out" / "small.onnx").is_file()
    assert found.targets[0].runtime.startswith("onnxruntime")
    assert bool(found.targets[0].integer_parity) == bool(precision.get("int8"))
