"""merge_reshapes: fewer reshapes and transposes, at the lowest rank."""

from __future__ import annotations

import pytest
import torch
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.identities import drop_identities
from exporter.simplify.reshapes import merge_reshapes

X = image(2, 6, 4, 5)


def applied(model, x=X):
    return rewrite(model, x, by=[merge_reshapes, drop_identities])


CASES = {
    "reshape of reshape": (lambda x: x.reshape(2, 24, 5).reshape(2, 120), ["reshape"]),
    "there and back": (lambda x: x.reshape(2, 24, 5).reshape(2, 6, 4, 5).tanh(), ["tanh"]),
    "transpose of transpose": (lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 2, 1), ["transpose"]),
    "transpose there and back": (lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).tanh(), ["tanh"]),
    "squeeze of unsqueeze": (lambda x: x.unsqueeze(2).squeeze(2).tanh(), ["tanh"]),
}


@pytest.mark.parametrize("name", CASES)
def test_case_1(name):
    model, expected = CASES[name]
    assert ops(applied(model)) == expected


def shuffle(groups):
    def model(x):
        n, c, h, w = x.shape
        return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

    return model


@pytest.mark.parametrize("groups", [2, 3])
def test_case_2_channel_shuffle_stays_within_rank_4(groups):
    graph = applied(shuffle(groups))
    assert ops(graph) == ["reshape", "transpose", "reshape"]
    assert [len(n.output.shape) for n in graph.nodes] == [4, 4, 4]


def test_case_2_pixel_shuffle_loses_a_rank():
    def pixel_shuffle(x):
        return x.view(1, 3, 2, 2, 4, 5).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 8, 10)

    graph = applied(pixel_shuffle, image(1, 12, 4, 5))
    assert max(len(v.shape) for v in graph.values()) == 5


def test_case_2_declines_when_the_transposed_tensor_is_read_as_it_is():
    graph = applied(lambda x: x.view(2, 2, 3, 4, 5).transpose(1, 2).tanh())
    assert ops(graph) == ["reshape", "transpose", "tanh"]
    assert graph.nodes[1].output.shape == (2, 3, 2, 4, 5)


def test_case_3_moving_dims_of_size_1_is_a_reshape():
    assert ops(applied(lambda x: x.permute(0, 2, 3, 1).tanh(), image(1, 1, 4, 5))) == ["reshape", "tanh"]
    assert ops(applied(lambda x: x.permute(0, 2, 3, 1).tanh(), image(1, 6, 1, 1))) == ["reshape", "tanh"]


def test_case_4_map_to_tokens():
    graph = applied(lambda x: x.flatten(2).transpose(1, 2).tanh())
    assert ops(graph) == ["transpose", "reshape", "tanh"]
    assert graph.nodes[0].attrs["perm"] == (0, 2, 3, 1)


def test_case_4_tokens_to_map():
    graph = applied(lambda x: x.transpose(1, 2).reshape(2, 6, 4, 5).tanh(), image(2, 20, 6))
    assert ops(graph) == ["reshape", "transpose", "tanh"]
    assert graph.nodes[1].attrs["perm"] == (0, 3, 1, 2)


DECLINES = {
    "flattened channels": lambda x: x.flatten(1, 2).transpose(1, 2).tanh(),
    "the flat map is read too": lambda x: (x.flatten(2), x.flatten(2).transpose(1, 2)),
    "other permutations": lambda x: x.flatten(2).permute(2, 0, 1).tanh(),
}


@pytest.mark.parametrize("name", DECLINES)
def test_case_4_declines(name):
    from exporter.simplify.duplicates import merge_duplicates

    graph = rewrite(DECLINES[name], X, by=[merge_duplicates, merge_reshapes])
    assert ops(graph)[:2] == ["reshape", "transpose"]


def test_results_that_others_read_keep_their_shape():
    def model(x):
        y = x.reshape(2, 24, 5)
        return y.tanh(), y.reshape(2, 120).sigmoid()

    assert sorted(ops(applied(model))) == ["reshape", "reshape", "sigmoid", "tanh"]


def test_outputs_keep_their_shape():
    graph = applied(lambda x: (x.view(2, 2, 3, 4, 5).transpose(1, 2), torch.relu(x)))
    assert graph.outputs[0].shape == (2, 3, 2, 4, 5)
