"""Size and cost of a model, without running it."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call


def count(model: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """(parameters, multiply-accumulates of convolutions and matrix products) for one RGB picture of (H, W) pixels.

    The forward pass runs on the meta device: no arithmetic, and the model is left as it was.
    """
    # Imported late: it pulls in more of torch than the rest of this package needs.
    from torch.utils.flop_counter import FlopCounterMode

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shadow = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    picture = torch.empty(1, 3, *image_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(model, shadow, (picture,))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2
