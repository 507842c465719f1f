"""A transformer of shifted windows: rank-6 partitions, rolls, a bias by relative position, patch merging."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Attention within windows of `window`² tokens [windows, window², width]."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(0.2 * torch.randn((2 * window - 1) ** 2, heads))
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        between = places[:, :, None] - places[:, None] + window - 1
        self.register_buffer("pairs", between[0] * (2 * window - 1) + between[1])

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(windows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias[self.pairs.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1)
        weights = (q * self.scale @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(windows, tokens, width))


class SwinBlock(nn.Module):
    """[N, H, W, C] to the same; windows shifted by half of one where `shift` is given, without a mask."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        w, rows, columns = self.window, height // self.window, width // self.window
        y = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        y = y.view(n, rows, w, columns, w, channels).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, channels)
        y = self.attention(y).view(n, rows, columns, w, w, channels).permute(0, 1, 3, 2, 4, 5)
        x = x + torch.roll(y.reshape(n, height, width, channels), (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    """2x2 neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduce(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    """Image [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, width: int = 48, window: int = 4, classes: int = 100) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.layers = nn.Sequential(
            SwinBlock(width, 3, window, 0), SwinBlock(width, 3, window, window // 2), Merge(width),
            SwinBlock(2 * width, 6, window, 0),
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.norm(x).mean((1, 2)))
