"""What cannot be captured: one error, every offender, the user's own lines."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from parity import captured, check_float, image
from torch import nn

from exporter.capture.aten import ATEN
from exporter.errors import UnsupportedError, UsageError

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
        captured(nn.MaxPool2d(3, 2, dilation=2), X)
    assert caught.value.where[0].endswith("dilation")


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


def test_torchscript_names_the_module():
    model = nn.Sequential(nn.ReLU(), torch.jit.script(nn.Tanh()))
    with pytest.raises(UnsupportedError, match="TorchScript") as caught:
        captured(model, X)
    assert caught.value.where == ("1",)


def test_an_output_of_a_class_of_its_own_is_named():
    class Detections:
        pass

    with pytest.raises(UnsupportedError) as caught:
        captured(lambda x: Detections(), X)
    assert caught.value.why == "forward() takes or returns an object of class Detections"


def test_a_model_on_another_device_is_refused():
    with pytest.raises(UsageError, match="the model is on meta") as caught:
        captured(nn.Conv2d(3, 4, 1, device="meta"), X)
    assert caught.value.where == ("weight and 1 more",)


def test_sizes_that_the_values_decide_name_the_op_that_makes_them_alone():
    with pytest.raises(UnsupportedError) as caught:
        captured(lambda x: x[0, 0].flatten()[torch.nonzero(x[0, 0].flatten())[:, 0]].relu().sum(), X)
    assert caught.value.where[0].startswith("nonzero")
    assert caught.value.where[0].endswith("how many elements come out depends on the values")
    assert not any("sym_size" in place or "built-in" in place for place in caught.value.where)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_refused_as_such(layer):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer(8, 4)

        def forward(self, x):
            return self.layer(x[:, 0])[0]  # unsupported

    with pytest.raises(UnsupportedError) as caught:
        captured(Reader(), X)
    assert caught.value.where[0].endswith("a recurrent layer: none is supported")
    assert f"{HERE}:{line_of(Reader)}" in caught.value.where[0]


def test_autocast_is_refused_at_a_line_inside_it():
    class Mixed(nn.Module):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = x @ x  # unsupported
            return x.float()

    with pytest.raises(UnsupportedError) as caught:
        captured(Mixed(), X)
    place = caught.value.where[0]
    assert place.endswith("torch.autocast: export the model without it")
    assert f"{HERE}:{line_of(Mixed)}" in place


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


# --- what only some calls of an op ask for ----------------------------------------------------------------------------
def computed_bias(x):
    return F.conv2d(x, torch.ones(3, 3, 1, 1), x.mean((0, 2, 3)))


def computed_norm(x):
    return F.batch_norm(x, torch.zeros(3), torch.ones(3), x.mean((0, 2, 3)))


REFUSED = {
    "convolution without batch": (lambda x: F.conv2d(x.squeeze(0), torch.ones(2, 3, 1, 1)), "an input of rank 3"),
    "max pool without batch": (lambda x: F.max_pool2d(x.squeeze(0), 2), "an input of rank 3"),
    "average pool without batch": (lambda x: F.avg_pool2d(x.squeeze(0), 2), "an input of rank 3"),
    "adaptive pool without batch": (lambda x: F.adaptive_avg_pool2d(x.squeeze(0), 1), "an input of rank 3"),
    "computed bias": (computed_bias, "the bias is computed from the input"),
    "computed norm": (computed_norm, "a parameter is computed from the input"),
    "bits as integers": (lambda x: x.view(torch.int32), "the bits read as torch.int32"),
    "softmax in float64": (lambda x: x.softmax(1, dtype=torch.float64), "dtype=torch.float64"),
    "sum in float64": (lambda x: x.sum(1, dtype=torch.float64), "dtype=torch.float64"),
    "mean in float64": (lambda x: x.mean(1, dtype=torch.float64), "dtype=torch.float64"),
    "dropout": (lambda x: F.dropout(x, 0.5), "dropout with training=True"),
    "dropout of channels": (lambda x: F.dropout2d(x, 0.5), "dropout with training=True"),
    "dropout in a functionalised program": (
        lambda x: F.dropout(x * 2, 0.5) + x.mul_(2.0),
        "dropout with training=True",
    ),
    "random numbers": (lambda x: x + torch.randn(1, 3, 8, 8), "random: other numbers at every call"),
    "random numbers like the input": (lambda x: x + torch.rand_like(x), "random: other numbers at every call"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_row_says_where_and_why(name):
    model, reason = REFUSED[name]
    with pytest.raises(UnsupportedError) as caught:
        captured(model, X)
    (place,) = (place for place in caught.value.where if reason in place)
    assert "return self.function(*inputs)" in place  # the innermost forward(), of the module around the function


def test_random_numbers_of_a_stored_generator_are_refused_at_their_line():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.source = torch.Generator()

        def forward(self, x):
            return x + torch.randn(x.shape, generator=self.source)  # unsupported

    with pytest.raises(UnsupportedError) as caught:
        captured(Noisy(), X)
    (place,) = caught.value.where
    assert place.startswith("randn")
    assert f"{HERE}:{line_of(Noisy)}" in place
    assert place.endswith("random: other numbers at every call")


def test_an_unforeseen_call_is_an_offender_with_the_exceptions_text(monkeypatch):
    def surprised(b, x):
        raise IndexError("no dim 7\nsecond line")

    monkeypatch.setitem(ATEN, "relu", surprised)
    with pytest.raises(UnsupportedError) as caught:
        captured(lambda x: torch.erf(x.relu()), X)
    assert caught.value.where[0].endswith("IndexError: no dim 7")
    assert [place.split()[0] for place in caught.value.where] == ["relu", "erf"]


@pytest.mark.parametrize("model", [lambda x: F.dropout(x, 0.0).relu(), lambda x: x.softmax(1, dtype=torch.float32)])
def test_what_changes_nothing_is_not_refused(model):
    assert len(check_float(model, X).ops) == 1
