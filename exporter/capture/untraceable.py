"""What torch.export cannot take, in words that name the user's line and a way out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from exporter.errors import UnsupportedError, UsageError, blame

DEFAULT_ADVICE = "make forward() free of data-dependent control flow; check the input size with --size HxW"


def check_traceable(module: nn.Module, example: Sequence[Tensor]) -> None:
    """Refuse what torch.export would refuse in words of its own: TorchScript, other devices, other input dtypes."""
    if scripted := [name or "(top level)" for name, part in module.named_modules() if _is_torchscript(part)]:
        raise UnsupportedError(
            "TorchScript cannot be traced",
            where=scripted[:1],
            why="it holds compiled code in place of the module's own forward()",
            try_="give the nn.Module that torch.jit.script or torch.jit.trace was called on",
        )
    stored = [*module.named_parameters(), *module.named_buffers()]
    if elsewhere := [(name, str(t.device)) for name, t in stored if t.device.type != "cpu"]:
        name, device = elsewhere[0]
        raise UsageError(
            f"the model is on {device}, not on the CPU",
            where=f"{name} and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else name,
            try_="load its weights" if device == "meta" else "module.cpu()",
        )
    for position, tensor in enumerate(example):
        if tensor.dtype is not torch.float32:
            raise UsageError(
                f"input {position} is {tensor.dtype}, not float32",
                why="files take float32; --io int8 or uint8 makes their inputs integers",
                try_="example.float(), and module.float() where the weights have another dtype",
            )


def untraceable(module: nn.Module, error: Exception) -> UnsupportedError:
    """The one message for a failed trace."""
    why, advice = _diagnosis(module, error)
    return UnsupportedError(
        f"torch.export cannot trace {type(module).__name__}", where=blame(error), why=why, try_=advice
    )


def _diagnosis(module: nn.Module, error: Exception) -> tuple[str, str]:
    """Why it failed, and what to do about it."""
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    others = {str(p.dtype) for p in module.parameters() if p.dtype.is_floating_point and p.dtype is not torch.float32}
    if "data-dependent expression" in why:
        return (
            "an if, a loop or a size in it depends on the values of a tensor",
            "compute both ways and choose with torch ops, or leave that part to the app",
        )
    if "not a known type" in why:
        name = why.partition("<class '")[2].partition("'>")[0].rpartition(".")[2]
        return (
            f"forward() takes or returns an object of class {name or 'its own'}",
            "return tensors, or a tuple, list, dict or namedtuple of them",
        )
    if others and "type" in why:
        return why, f"module.float(): it has weights in {', '.join(sorted(others))}"
    if isinstance(error, TypeError) and "argument" in why:
        return why, "forward() is called with the example inputs in order: one tensor for each that has no default"
    return why, DEFAULT_ADVICE


def _is_torchscript(part: nn.Module) -> bool:
    return isinstance(part, torch.jit.ScriptModule)
