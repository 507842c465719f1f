"""A folder with a small model of the user's own, and a bundle made of it once."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import edge_export

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        return self.body(y) + y

def make():
    torch.manual_seed(0)
    return Net().eval()
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A user's folder: net.py, whose `net:make` is a small convolutional network. Nothing else may be left in it."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "net.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.py and `int8/`, the bundle of `net:make --int8`. Tests only read it."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "net.py").write_text(MODEL)
    done = edge_export("net:make", "--int8", "--size", "64x64", "--out", "int8", cwd=folder)
    assert done.code == 0, done.err
    return folder
