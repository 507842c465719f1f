"""nest_upsampling: maps of several sizes are added where they are small."""

import pytest
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.fuse_activations import fuse_activations
from exporter.simplify.nest_upsampling import nest_upsampling

FULL, HALF, QUARTER = image(1, 2, 8, 12, seed=1), image(1, 2, 4, 6, seed=2), image(1, 2, 2, 3, seed=3)


def up(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def sizes(graph):
    return [node.attrs["size"] for node in graph.nodes if node.op.name == "resize_nearest"]


@pytest.mark.parametrize(
    "model",
    [
        lambda x, a, b: x + up(a, 2) + up(b, 4),
        lambda x, a, b: up(b, 4) + x + up(a, 2),
        lambda x, a, b: x + (up(b, 4) + up(a, 2)),
        lambda x, a, b: (up(a, 2) + x) + (up(b, 4) + x),
    ],
    ids=["as Lite-HRNet", "coarsest first", "summed before", "two plain terms"],
)
def test_each_size_is_added_to_the_next(model):
    graph = rewrite(model, FULL, HALF, QUARTER, by=[nest_upsampling])
    assert sizes(graph) == [(4, 6), (8, 12)]


def test_maps_of_one_size_share_an_upsampling():
    graph = rewrite(lambda x, a, b: x + up(a, 2) + up(b, 2), FULL, HALF, HALF + 1, by=[nest_upsampling])
    assert ops(graph) == ["add", "resize_nearest", "add"]


def test_the_activation_of_the_sum_stays_with_it():
    graph = rewrite(
        lambda x, a, b: F.relu(x + up(a, 2) + up(b, 4)), FULL, HALF, QUARTER, by=[fuse_activations, nest_upsampling]
    )
    assert [node.attrs["activation"] for node in graph.nodes if node.op.name == "add"] == ["none", "relu"]
    assert sizes(graph) == [(4, 6), (8, 12)]


@pytest.mark.parametrize(
    "model",
    [
        lambda x, a, b: x + up(a, 2),
        lambda x, a, b: (x + up(a, 2), up(a, 2) * 3),
        lambda x, a, b: up(a, 2) + up(b, 4),
        lambda x, a, b: ((y := x + up(a, 2)), y + up(b, 4)),
        lambda x, a, b: F.relu(x + up(a, 2)) + up(b, 4),
        lambda x, a, b: x + ((y := up(a, 2)) + y),
        lambda x, a, b: x + up(a, 2) + F.interpolate(F.pad(b, (0, 1)), size=(8, 12)),
    ],
    ids=[
        "one term", "a term that is read again", "nothing at full size", "a partial sum that is read again",
        "an activation between", "a term twice", "sizes that do not divide",
    ],
)  # fmt: skip
def test_declines(model):
    before = rewrite(model, FULL, HALF, QUARTER, by=[])
    assert ops(rewrite(model, FULL, HALF, QUARTER, by=[nest_upsampling])) == ops(before)
