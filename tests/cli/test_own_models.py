"""A user's own models through the command: several inputs and outputs, structures, other shapes than a picture's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import edge_export
from refusals import refused

MODELS = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(1, 8, 3, padding=1)

    def forward(self, image, depth, scale=2.0):
        x = torch.relu(self.a(image) + self.b(depth)) * scale
        return {"mask": x, "stats": [x.mean((2, 3)), torch.sigmoid(x[:, :2])], "unused": None}

def two():
    torch.manual_seed(0)
    return Two()

def grey():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return {"logits": self.stem(x)}

ready = grey()
"""
TENSORS = ("name", "dtype", "shape")


@pytest.fixture
def own(desk):
    """The user's folder with models.py, two.npz (image and depth of 32 x 48 pixels, and labels) and grey.npz."""
    (desk / "models.py").write_text(MODELS)
    rng = np.random.default_rng(0)
    arrays = {"image": (9, 3, 32, 48), "depth": (9, 1, 32, 48), "labels": (9, 5)}
    np.savez(desk / "two.npz", **{name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()})
    np.savez(desk / "grey.npz", pixels=rng.normal(size=(9, 1, 28, 28)).astype(np.float32))
    return desk


def interface(desk, bundle):
    """Name, dtype and shape of the inputs and outputs that the file itself declares."""
    found = edge_export("inspect", bundle, "--json", cwd=desk).json
    return [[tuple(tensor[key] for key in TENSORS) for tensor in found[side]] for side in ("inputs", "outputs")]


def test_two_inputs_and_nested_outputs_keep_their_names_and_order(own):
    done = edge_export("models:two", "--calib", "two.npz", "--int8", "--out", "two", cwd=own)
    assert done.code == 0, done.err
    inputs, outputs = interface(own, "two")
    assert inputs == [("image", "float32", [1, 32, 48, 3]), ("depth", "float32", [1, 32, 48, 1])]
    assert outputs == [
        ("mask", "float32", [1, 32, 48, 8]),
        ("stats_0", "float32", [1, 8]),
        ("stats_1", "float32", [1, 32, 48, 2]),
    ]
    golden = json.loads((own / "two" / "golden" / "tflite" / "golden.json").read_text())
    assert [tensor["name"] for tensor in golden["inputs"]] == ["image", "depth"]


def test_arrays_give_the_input_its_shape(own):
    done = edge_export("models:grey", "--calib", "grey.npz", "--int8", "--out", "grey", cwd=own)
    assert done.code == 0, done.err
    assert interface(own, "grey")[0] == [("input", "float32", [1, 28, 28, 1])]


def test_a_class_and_a_ready_module_are_models_too(own):
    assert edge_export("models:Noisy", "--size", "32", "--out", "a", cwd=own).code == 0
    assert interface(own, "a")[1] == [("logits", "float32", [1, 30, 30, 8])]
    assert edge_export("models:ready", "--calib", "grey.npz", "--out", "b", cwd=own).code == 0
    assert interface(own, "b")[1] == [("output", "float32", [1, 5])]


def test_a_recipe_may_state_the_inputs(own):
    shapes = "inputs: {depth: [1, 1, 32, 48], image: [1, 3, 32, 48]}"
    (own / "r.yaml").write_text(f"model: models:two\ncalibration: {{source: two.npz}}\n{shapes}\n")
    assert edge_export("r.yaml", "--int8", "--out", "two", cwd=own).code == 0
    assert [name for name, _, _ in interface(own, "two")[0]] == ["image", "depth"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(
            ["models:two", "--size", "32"], 4, ["missing a required argument: 'depth'"], id="pictures-for-two-inputs"
        ),
        pytest.param(
            ["models:Noisy", "--calib", "two.npz"],
            2,
            ["none of image, depth, labels is an input of models:Noisy", "takes x"],
            id="foreign-names",
        ),
        pytest.param(
            ["models:grey", "--calib", "grey.npz", "--size", "64"], 3, ["[9, 1, 28, 28]"], id="size-beside-arrays"
        ),
        pytest.param(
            ["efficientdet_d0", "--weights", "random", "--calib", "grey.npz"],
            3,
            ["has shape [9, 1, 28, 28]"],
            id="arrays-for-a-known-model",
        ),
    ],
)
def test_inputs_that_do_not_fit(own, arguments, code, said):
    refused(edge_export(*arguments, "--int8", "--out", "out", cwd=own), code, *said)
    assert not (own / "out").exists()


def test_stated_inputs_of_a_registered_model_are_refused(own):
    (own / "r.yaml").write_text("model: efficientdet_d0\ninputs: {x: [1, 3, 64, 64]}\n")
    refused(edge_export("r.yaml", cwd=own), 2, "inputs is for your own model")
