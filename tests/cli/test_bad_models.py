"""Models that cannot be made, traced or written: exit 2 for the user's own code, 4 for what no stage can express."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import edge_export
from refusals import names, refused
from torch import nn

FUNCTIONS = """\
import torch
from torch import nn

def raises():
    return nn.Conv2d(3, 8, 3, stride=0 // 0)

def elsewhere():
    from parts import block
    return block()

def not_a_module():
    return torch.zeros(3)

def with_arguments(width):
    return nn.Conv2d(3, width, 1)

def imports():
    import nothing_of_the_kind

NUMBER = 7
"""

PARTS = """\
def block():
    raise KeyError("width")
"""

FORWARDS = """\
import torch
from torch import nn

class Warp(nn.Module):
    def forward(self, x):
        grid = torch.zeros(1, 8, 8, 2)
        return torch.nn.functional.grid_sample(x, grid)  # offender 1

class Count(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 1)  # offender 2

class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.neck, self.head = Warp(), Count()
    def forward(self, x):
        return self.head(self.neck(x))

class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # depends on the data
            return x
        return -x

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 8, 1)
    def forward(self, x):
        return self.conv(x)  # x has 3 channels

class Constant(nn.Module):
    def forward(self, x):
        return torch.relu(x), torch.ones(4)
"""


@pytest.fixture
def models(desk: Path) -> Path:
    (desk / "functions.py").write_text(FUNCTIONS)
    (desk / "parts.py").write_text(PARTS)
    (desk / "forwards.py").write_text(FORWARDS)
    (desk / "broken.py").write_text("import torch\nmodel = (\n")
    return desk


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param(
            "functions:raises",
            ["functions.py:5  return nn.Conv2d(", "ZeroDivisionError: "],
            id="raises-in-the-function",
        ),
        pytest.param("functions:elsewhere", ["parts.py:2  raise KeyError", "KeyError: 'width'"], id="raises-elsewhere"),
        pytest.param("functions:not_a_module", ["returned Tensor", "return a torch.nn.Module"], id="no-module"),
        pytest.param("functions:with_arguments", ["missing 1 required", "without arguments"], id="wants-arguments"),
        pytest.param("functions:imports", ["functions.py:18  import nothing", "No module named"], id="missing-import"),
        pytest.param("functions:raise", ["no function 'raise'", "did you mean raises?"], id="near-name"),
        pytest.param("functions:NUMBER", ["'int' object is not callable"], id="not-callable"),
        pytest.param("absent:make", ["No module named 'absent'", "my_package.my_module:"], id="no-such-module"),
        pytest.param("functions.py:raises", ["functions:raises"], id="file-for-a-module"),
        pytest.param("broken:make", ["broken.py:2  model = (", "SyntaxError"], id="syntax-error"),
        pytest.param(":make", ["cannot make a model from :make"], id="no-module-name"),
        pytest.param("functions:", ["functions has no function ''"], id="no-function-name"),
    ],
)
def test_own_functions(models, name, said):
    before = names(models)
    refused(edge_export(name, "--int8", cwd=models), 2, *said)
    assert names(models) == before


def test_every_unsupported_op_is_named_at_once(models):
    before = names(models)
    done = edge_export("forwards:Both", "--int8", "--size", 64, cwd=models)
    lines = refused(done, 4, "2 of 3 nodes cannot be captured")
    first, second = (line_of(FORWARDS, f"offender {n}") for n in (1, 2))
    assert any(line.split()[:2] == ["grid_sampler", "neck"] and f"forwards.py:{first}" in line for line in lines)
    assert any(line.split()[:2] == ["cumsum", "head"] and f"forwards.py:{second}" in line for line in lines)
    assert names(models) == before


def test_control_flow_on_data(models):
    done = edge_export("forwards:Branch", "--int8", "--size", 64, cwd=models)
    place = f"forwards.py:{line_of(FORWARDS, 'depends on')}  if x.sum() > 0:"
    refused(done, 4, "torch.export cannot trace Branch", place)


def test_a_forward_that_fails(models):
    done = edge_export("forwards:Wide", "--size", 64, cwd=models)
    place = f"forwards.py:{line_of(FORWARDS, 'has 3 channels')}"
    refused(done, 4, "torch.export cannot trace Wide", place)


def test_an_output_that_is_a_constant(models):
    refused(edge_export("forwards:Constant", "--size", 64, cwd=models), 4, "does not depend on the input")


class RunsCode:
    """Unpickling this would leave a file behind."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def truncated(path: Path) -> None:
    torch.save(nn.Conv2d(3, 8, 3).state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])


WEIGHTS = {
    "missing": (lambda path: None, ["cannot read weights w.pth", "No such file"]),
    "empty": (lambda path: path.touch(), ["w.pth is not a weights file", "the file is empty"]),
    "truncated": (truncated, ["w.pth is truncated or damaged"]),
    "web-page": (lambda path: path.write_text("<!DOCTYPE html>"), ["it is a web page"]),
    "of-another-model": (
        lambda path: torch.save(nn.Conv2d(3, 8, 3).state_dict(), path),
        ["w.pth does not fit the model", "missing     stem.weight", "unexpected  bias"],
    ),
    "of-another-shape": (
        lambda path: torch.save(
            {"stem.weight": torch.zeros(9, 3, 3, 3), "stem.bias": torch.zeros(8)}
            | {f"body.{name}": value for name, value in nn.Conv2d(8, 8, 3).state_dict().items()},
            path,
        ),
        ["w.pth does not fit the model", "shape       stem.weight  [9, 3, 3, 3], not [8, 3, 3, 3]"],
    ),
    "pickled-code": (
        lambda path: torch.save({"state_dict": RunsCode()}, path),
        ["holds more than weights", "any code"],
    ),
}


@pytest.mark.parametrize(("make", "said"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights(desk, make, said):
    make(desk / "w.pth")
    before = names(desk)
    refused(edge_export("net:make", "--int8", "--weights", "w.pth", cwd=desk), 3, *said)
    assert names(desk) == before


def test_weights_of_another_registered_model_name_their_owner(desk):
    from exporter import build_model

    torch.save(build_model("efficientdet_d1").state_dict(), desk / "d1.pth")
    done = edge_export("efficientdet_d0", "--size", 128, "--weights", "d1.pth", cwd=desk)
    refused(done, 3, "d1.pth does not fit the model", "the model these weights belong to: efficientdet_d1")
