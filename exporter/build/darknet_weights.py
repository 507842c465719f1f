"""darknet's `.weights` files: float32 numbers without names, in the order of the network's cfg.

Source: AlexeyAB/darknet `src/parser.c` (load_weights, load_convolutional_weights). Little-endian: int32 major, minor
and revision, then the pictures seen in training (int64 from version 0.2 on, int32 before), then for each convolution
its bias, where it has a BatchNorm the scale, mean and variance, and its kernel [out, in / groups, k, k].
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exporter.build.darknet import DarknetOrder
from exporter.build.registry import build_model, list_models
from exporter.errors import DataError

VERSION = struct.Struct("<iii")
BN = ("bias", "weight", "running_mean", "running_var")
"""What a BatchNorm calls the four vectors ahead of a kernel."""


def is_darknet(head: bytes) -> bool:
    """Whether a file that begins so is a `.weights` file: by its version, 0.1 and 0.2 in all that are published."""
    if len(head) < VERSION.size:
        return False
    major, minor, _ = VERSION.unpack_from(head)
    return 0 <= major < 10 and 0 <= minor < 10 and major + minor > 0


def read_darknet(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """The state dict of `model` in a `.weights` file.

    Raises DataError for a model that no cfg orders, a file that is too short or too long for it, or one whose numbers
    cannot be this network's.
    """
    if not isinstance(model, DarknetOrder):
        raise DataError(
            f"{path} is a darknet .weights file",
            why="it names no tensors: their order is that of a darknet cfg, which this model does not have",
            try_="a .pth or .safetensors file, or a model of the darknet layout (csdarknet53, say)",
        )
    values, want = _values(path), dict(tensors(model))
    if len(values) != (need := _size(model)):
        raise _misfit(path, model, want, len(values), need)
    state, position = {}, 0
    for name, shape in want.items():
        count = shape.numel()
        state[name] = torch.from_numpy(values[position : position + count]).reshape(shape)
        position += count
    if wrong := [name for name in state if name.endswith("running_var") and (state[name] < 0).any()]:
        raise DataError(
            f"{path} does not fit the model",
            where=wrong[:8],
            why="these variances would be negative: the numbers are those of another network",
            try_="the model that the file was trained as",
        )
    return state


def tensors(model: nn.Module) -> Iterator[tuple[str, torch.Size]]:
    """Name in the state dict and shape of everything that a `.weights` file of `model` holds, in its order."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if not isinstance(module, nn.Conv2d):
            continue
        norm = f"{name.removesuffix('conv')}bn"
        if norm in modules:
            yield from ((f"{norm}.{part}", torch.Size([module.out_channels])) for part in BN)
        else:
            yield f"{name}.bias", torch.Size([module.out_channels])
        yield f"{name}.weight", module.weight.shape


def _size(model: nn.Module) -> int:
    return sum(shape.numel() for _, shape in tensors(model))


def _values(path: Path) -> np.ndarray:
    """The float32 numbers behind the header."""
    try:
        with path.open("rb") as file:
            header = file.read(VERSION.size)
            major, minor, _ = VERSION.unpack(header)
            start = VERSION.size + (8 if major * 10 + minor >= 2 else 4)
            rest = path.stat().st_size - start
            if rest < 0 or rest % 4:
                raise DataError(
                    f"{path} is truncated or damaged",
                    why=f"{max(rest, 0)} bytes follow its header, which is no whole number of float32 values",
                    try_="download or copy the file again",
                )
            file.seek(start)
            return np.fromfile(file, "<f4")
    except OSError as error:
        raise DataError(f"cannot read weights {path}", why=error.strerror or str(error)) from error


def _misfit(path: Path, model: DarknetOrder, want: dict[str, torch.Size], have: int, need: int) -> DataError:
    """What is wrong with a file of another length."""
    where: list[str] = []
    if have < need:
        position = 0
        for name, shape in want.items():
            position += shape.numel()
            if position > have:
                where = [f"it ends inside {name}  {list(shape)}"]
                break
    return DataError(
        f"{path} does not fit the model",
        where=where,
        why=f"it holds {have:,} numbers, the network has {need:,}",
        try_=_advice(model, have, need),
    )


def _advice(model: DarknetOrder, have: int, need: int) -> str:
    predictors = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    per_class = model.outputs_per_class * sum(conv.weight[0].numel() + 1 for conv in predictors)
    classes, rest = divmod(have - need, per_class)
    if not rest and model.num_classes + classes > 0:
        return f"--num-classes {model.num_classes + classes}, if only the predictor differs"
    if owners := _owners(have):
        return f"the model these weights belong to: {' or '.join(owners)}"
    return "the model that the file was trained as; where it is this one, download or copy the file again"


def _owners(have: int) -> list[str]:
    """Registered models whose `.weights` files hold so many numbers."""
    owners = []
    for info in list_models():
        # Mean and variance come on top of the parameters: at most a few percent.
        if 0.9 * have < info.params < have:
            with torch.device("meta"):
                model = build_model(info.name)
            if isinstance(model, DarknetOrder) and _size(model) == have:
                owners.append(info.name)
    return owners
