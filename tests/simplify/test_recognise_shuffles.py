"""recognise_shuffles: every spelling of a channel shuffle is one gather_channels."""

from __future__ import annotations

import pytest
import torch
from parity import image, run_float
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.shuffles import recognise_shuffles

X = image(2, 12, 4, 5)
SHUFFLED = tuple(torch.arange(12).reshape(3, 4).t().flatten().tolist())


def shuffled_last(x):
    return x.view(2, 20, 3, 4).transpose(2, 3).reshape(x.shape)


SPELLINGS = {
    "view, transpose, view": lambda x: x.view(2, 3, 4, 4, 5).transpose(1, 2).contiguous().view(2, 12, 4, 5),
    "view, permute, reshape": lambda x: x.view(2, 3, 4, 4, 5).permute(0, 2, 1, 3, 4).reshape(2, 12, 4, 5),
    "flatten at the end": lambda x: x.view(2, 3, 4, 4, 5).transpose(1, 2).flatten(1, 2),
    "unknown sizes": lambda x: x.reshape(x.size(0), 3, -1, x.size(2), x.size(3)).transpose(2, 1).reshape(x.shape),
    "rank 4": lambda x: x.view(2, 3, 4, 20).transpose(1, 2).reshape(2, 12, 4, 5),
    "batch and groups in one": lambda x: x.view(6, 4, 20).view(2, 3, 4, 20).permute(0, 2, 1, 3).reshape(2, 12, 4, 5),
    "channels last": lambda x: shuffled_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "nn.ChannelShuffle": nn.ChannelShuffle(3),
    "F.channel_shuffle": lambda x: nn.functional.channel_shuffle(x, 3),
}  # fmt: skip

STAYS = {
    "pixels move": lambda x: x.transpose(2, 3).reshape(2, 12, 4, 5),
    "channels and pixels move": lambda x: x.view(2, 4, 3, 4, 5).permute(0, 1, 4, 2, 3).reshape(2, 12, 4, 5),
    "samples move": lambda x: x.view(2, 12, 20).transpose(0, 1).reshape(2, 12, 4, 5),
    "another shape": lambda x: x.view(2, 3, 4, 4, 5).transpose(1, 2).reshape(2, 12, 5, 4),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_is_recognised(name):
    graph = rewrite(SPELLINGS[name], X, by=[recognise_shuffles])
    assert ops(graph) == ["gather_channels"]
    assert graph.nodes[0].attrs["channels"] == SHUFFLED
    assert torch.equal(run_float(graph, X)[0], nn.functional.channel_shuffle(X, 3))


@pytest.mark.parametrize("name", STAYS)
def test_stays(name):
    assert "gather_channels" not in ops(rewrite(STAYS[name], X, by=[recognise_shuffles]))


def test_a_chain_that_moves_nothing_goes():
    graph = rewrite(
        lambda x: x.tanh().view(2, 12, 1, 4, 5).transpose(1, 2).reshape(2, 12, 4, 5), X, by=[recognise_shuffles]
    )
    assert ops(graph) == ["tanh"]


def test_an_intermediate_that_somebody_else_reads_stays_for_him():
    def model(x):
        tall = x.view(2, 3, 4, 4, 5)
        return tall.transpose(1, 2).reshape(x.shape), tall.tanh()

    assert sorted(ops(rewrite(model, X, by=[recognise_shuffles]))) == ["gather_channels", "reshape", "tanh"]
