"""What cannot be captured: one error, every offender, the user's own lines."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from parity import captured, check_float, image
from torch import nn

from exporter.errors import UnsupportedError

X = image(1, 3, 8, 8)
HERE = Path(__file__).name


class Accumulate(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 2)  # unsupported


class Warp(nn.Module):
    def forward(self, x):
        return torch.erf(x).relu()  # unsupported


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.neck, self.head = Accumulate(), nn.Sequential(nn.ReLU(), Warp())

    def forward(self, x):
        return self.head(self.neck(x))


def line_of(owner) -> int:
    lines, start = inspect.getsourcelines(owner)
    return start + next(i for i, line in enumerate(lines) if line.rstrip().endswith(("# unsupported", "# dynamic")))


def test_all_offenders_are_listed_with_module_and_line():
    with pytest.raises(UnsupportedError) as caught:
        captured(Broken(), X)
    error = caught.value
    assert error.what == "2 of 4 nodes cannot be captured"
    assert [place.split()[:2] for place in error.where] == [["cumsum", "neck"], ["erf", "head.1"]]
    assert f"{HERE}:{line_of(Accumulate)}" in error.where[0]
    assert f"{HERE}:{line_of(Warp)}" in error.where[1]
    assert "torch.cumsum(x, 2)" in error.where[0]
    assert error.exit_code == 4


def test_ops_with_several_results_do_not_stop_the_walk():
    def model(x):
        values, indices = torch.topk(x, 2)
        return torch.erf(values.relu()), indices

    with pytest.raises(UnsupportedError) as caught:
        captured(model, X)
    assert [place.split()[0] for place in caught.value.where] == ["topk", "erf"]


def test_the_reason_stands_behind_the_line():
    with pytest.raises(UnsupportedError) as caught:
        captured(nn.MaxPool2d(3, 2, ceil_mode=True), X)
    assert caught.value.where[0].endswith("ceil_mode or dilation")


def test_data_dependent_control_flow_names_the_line():
    def model(x):
        if x.sum() > 0:  # dynamic
            return x
        return -x

    with pytest.raises(UnsupportedError, match="cannot trace") as caught:
        captured(model, X)
    (place,) = caught.value.where
    assert place.endswith(f"{HERE}:{line_of(model)}  if x.sum() > 0:  # dynamic")


def test_a_wrong_input_shape_names_the_line():
    with pytest.raises(UnsupportedError) as caught:
        captured(lambda x: F.conv2d(x, torch.ones(4, 5, 1, 1)), X)  # dynamic
    assert f"{HERE}:" in caught.value.where[0]
    assert "check the input size" in caught.value.try_[0]


def test_a_reader_of_pooling_indices_is_refused():
    with pytest.raises(UnsupportedError, match="max_pool2d_with_indices"):
        captured(lambda x: F.max_pool2d(x, 2, return_indices=True), X)


def test_a_conversion_to_another_dtype_is_refused():
    with pytest.raises(UnsupportedError, match=r"conversion to torch.float16"):
        captured(lambda x: x.half() * 2, X)


def test_float64_is_refused_at_every_line():
    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1).double()

        def forward(self, x):
            return self.conv(x.double()).float()

    with pytest.raises(UnsupportedError) as caught:
        captured(Double(), X)
    assert [place.split()[0] for place in caught.value.where] == ["to", "conv2d", "to"]


def test_a_buffer_that_forward_changes_is_refused():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    with pytest.raises(UnsupportedError, match=r"forward\(\) changes 1 buffers") as caught:
        captured(Counting(), X)
    assert caught.value.where == ("calls",)


def test_a_copy_that_broadcasts_is_refused():
    with pytest.raises(UnsupportedError, match="copy_ that broadcasts"):
        captured(lambda x: (x * 2).copy_(torch.ones(1)), X)


# --- the user's module is in training mode ----------------------------------------------------------------------------
def test_a_module_in_training_mode_is_exported_in_eval_mode():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    for _ in range(3):
        model(X + 1)
    before = model[1].running_mean.clone()
    assert check_float(model, X).ops == ["CONV_2D"]
    assert torch.equal(model[1].running_mean, before)
