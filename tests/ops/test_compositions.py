"""Random networks of up to eight steps: ops that are right alone must be right together, in float and in int8."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import Tensor, nn

from exporter.errors import AccuracyError

STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": lambda y: F.relu6(y * 3),
    "leaky_relu": lambda y: F.leaky_relu(y, 0.1),
    "silu": F.silu,
    "gelu": F.gelu,
    "hard_swish": F.hardswish,
    "tanh": torch.tanh,
    "softmax": lambda y: F.softmax(y, 1),
    "pool": lambda y: F.max_pool2d(y, 3, 2, 1),
    "same pool": lambda y: F.max_pool2d(y, 3, 1, 1),
    "up": lambda y: F.interpolate(y, scale_factor=2, mode="nearest"),
    "bilinear": lambda y: F.interpolate(y, (9, 7), mode="bilinear", align_corners=True),
    "pad": lambda y: F.pad(y, (1, 0, 0, 2), value=0.7),
    "crop": lambda y: y[:, :, 1:, 1:],
    "strided": lambda y: y[:, :, ::2, 1::2],
    "half": lambda y: y[:, : (y.shape[1] + 1) // 2],
    "scale": lambda y: y * -1.7,
    "shift": lambda y: y + 0.3,
    "scale channels": lambda y: y * torch.linspace(0.5, 2, y.shape[1]).reshape(-1, 1, 1),
    "gate": lambda y: y * y.mean((2, 3), keepdim=True).sigmoid(),
    "residual": lambda y: y + torch.tanh(y),
    "global context": lambda y: y + y.mean((2, 3))[:, :, None, None],
    "double": lambda y: torch.cat([y * 0.5, y.relu()], 1),
    "stack": lambda y: torch.stack([y * 0.3, y.sigmoid() * 0.7], -1).sum(-1),
    "tokens": lambda y: y.flatten(2).transpose(1, 2).tanh().transpose(1, 2).reshape(y.shape),
    "transpose": lambda y: y.transpose(2, 3),
    "shuffle": lambda y: y.reshape(1, 1, *y.shape[1:]).transpose(1, 2).reshape(y.shape) * 2,
    "divide": lambda y: y / (y * y + 1),
}


class Random(nn.Module):
    """Steps, convolutions and joins chosen by `seed`."""

    def __init__(self, seed: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        self.names: list[str] = []
        self.layers = nn.ModuleDict()
        y = torch.zeros(1, channels, *size)
        for index in range(pick.randint(2, 8)):
            name = pick.choice([*STEPS, *["convolution"] * 8])
            key = f"{index}"
            if name == "convolution":
                kernel, groups = pick.choice([1, 3, 5]), pick.choice([1, 1, y.shape[1]])
                outputs = groups * pick.choice([1, 2]) if groups > 1 else pick.choice([1, 4, 6])
                conv = nn.Conv2d(y.shape[1], outputs, kernel, pick.choice([1, 2]), kernel // 2, groups=groups)
                norm = nn.BatchNorm2d(outputs).eval()
                norm.running_var.uniform_(0.3, 2)
                self.layers[key] = nn.Sequential(
                    conv, norm, pick.choice([nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Identity()])
                )
            self.names.append(name)
            following = self.step(index, y)
            if following.numel() == 0 or following.numel() > 4000 or min(following.shape[2:]) < 3:
                self.names[-1] = "same pool"
            y = self.step(index, y)

    def step(self, index: int, y: Tensor) -> Tensor:
        name = self.names[index]
        return self.layers[str(index)](y) if name == "convolution" else STEPS[name](y)

    def forward(self, x: Tensor) -> list[Tensor]:
        y = before = x
        for index in range(len(self.names)):
            before, y = y, self.step(index, y)
        return [y, before, y.flatten(1)]


def network(seed: int) -> tuple[Random, Tensor]:
    """A network and its input."""
    pick = random.Random(-seed)
    channels, size = pick.choice([1, 2, 3, 4]), (pick.randint(4, 12), pick.randint(4, 12))
    return Random(seed, channels, size), image(1, channels, *size, low=pick.choice([-1, 0, -3]), seed=seed)


@pytest.mark.parametrize("seed", range(1, 13))
def test_float(seed):
    check_float(*network(seed), least=100)


@pytest.mark.parametrize("seed", range(1, 13))
def test_int8(seed):
    check_int8(*network(seed), least=-20, io=random.Random(seed).choice(["float", "int8", "uint8"]))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(13, 113, 20))
def test_twenty_more_in_both(first):
    for seed in range(first, first + 20):
        model, x = network(seed)
        check_float(model, x, least=100)
        with suppress(AccuracyError):  # a concat of ranges too far apart is refused on purpose
            check_int8(model, x, least=-20)
