"""stack_sum_to_adds: sums over a stack become adds of rank 4."""

from __future__ import annotations

import pytest
import torch
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.stack_sum import stack_sum_to_adds

A, B, C = (image(1, 3, 4, 5, seed=seed) for seed in (1, 2, 3))
WEIGHTS = torch.tensor([0.2, 0.3, 0.5])


def applied(model, *inputs):
    return ops(rewrite(model, *inputs, by=[stack_sum_to_adds]))


@pytest.mark.parametrize("dim", [-1, 0, 1, 2, 4])
def test_a_sum_over_a_stack(dim):
    assert applied(lambda a, b, c: torch.stack([a, b, c], dim).sum(dim), A, B, C) == ["add", "add"]


def test_weights_before_the_stack():
    def bifpn(a, b, c):
        return torch.stack([x * w for x, w in zip((a, b, c), WEIGHTS, strict=True)], -1).sum(-1)

    assert applied(bifpn, A, B, C) == ["mul", "mul", "mul", "add", "add"]


def test_weights_behind_the_stack():
    graph = rewrite(lambda a, b, c: (torch.stack([a, b, c], -1) * WEIGHTS).sum(-1), A, B, C, by=[stack_sum_to_adds])
    assert ops(graph) == ["mul", "mul", "mul", "add", "add"]
    assert [float(n.inputs[1].const) for n in graph.nodes[:3]] == WEIGHTS.tolist()
    assert max(len(v.shape) for v in graph.values()) == 4


def test_one_weight_behind_the_stack():
    assert applied(lambda a, b: (torch.stack([a, b], -1) * 0.5).sum(-1), A, B) == ["mul", "mul", "add"]


def test_of_one_tensor_with_itself():
    assert applied(lambda a: torch.stack([a, a], -1).sum(-1), A) == ["add"]


def test_vectors():
    assert applied(lambda a, b: torch.stack([a, b]).sum(0), A.flatten(), B.flatten()) == ["add"]


STAYS = {
    "a mean": lambda a, b: torch.stack([a, b], -1).mean(-1),
    "another dim": lambda a, b: torch.stack([a, b], 1).sum(-1),
    "kept dim": lambda a, b: torch.stack([a, b], -1).sum(-1, keepdim=True),
    "more dims": lambda a, b: torch.stack([a, b], -1).sum((-1, -2)),
    "thick slices": lambda a, b: torch.cat([a, b], 1).sum(1),
    "weights along another dim": lambda a, b: (torch.stack([a, b], 1) * torch.linspace(1, 2, 2)).sum(1),
    "weights of lower rank than the dim": lambda a, b: (torch.stack([a, b], 1) * torch.tensor([0.5, 2.0])).sum(1),
    "a count that raises the rank": lambda a, b: torch.stack([a, b], -1).mean(-1) * torch.full((1,) * 5, 2.0),
    "another factor": lambda a, b: torch.stack([a, b], -1).mean(-1) * 3.0,
}


@pytest.mark.parametrize("name", STAYS)
def test_declines(name):
    a, b = A[..., :2], B[..., :2]  # as wide as there are weights in a pair
    assert {"concat", "mean"} <= set(applied(STAYS[name], a, b))
