"""batch_norm_to_affine: a mul and an add per channel, computed in float64."""

from __future__ import annotations

import torch
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.batch_norm import batch_norm_to_affine


def norm(channels: int, rank: int = 4) -> nn.Module:
    module = (nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d)(channels)
    module.running_mean.uniform_(-2, 2)
    module.running_var.uniform_(0.01, 4)
    nn.init.uniform_(module.weight, -2, 2)
    nn.init.uniform_(module.bias, -2, 2)
    return module


def test_rank_4():
    graph = rewrite(norm(3), image(2, 3, 4, 5), by=[batch_norm_to_affine])
    assert ops(graph) == ["mul", "add"]
    assert [n.inputs[1].shape for n in graph.nodes] == [(1, 3, 1, 1)] * 2


def test_rank_2_and_3():
    assert ops(rewrite(norm(3, 2), image(4, 3), by=[batch_norm_to_affine])) == ["mul", "add"]
    assert ops(rewrite(norm(3, 3), image(4, 3, 5), by=[batch_norm_to_affine])) == ["mul", "add"]


def test_the_nodes_keep_the_source_of_the_norm():
    graph = rewrite(nn.Sequential(nn.ReLU(), norm(3)), image(1, 3, 4, 5), by=[batch_norm_to_affine])
    assert [n.source.module for n in graph.nodes] == ["0", "1", "1"]


def test_constants_are_rounded_once():
    """weight / sqrt(var + eps) in float64, then to float32: what fold_affine needs for 120 dB and more."""
    module = norm(3)
    graph = rewrite(module, image(1, 3, 4, 5), by=[batch_norm_to_affine])
    exact = module.weight.double() / torch.sqrt(module.running_var.double() + module.eps)
    assert torch.equal(graph.nodes[0].inputs[1].const.flatten(), exact.float())
