"""Lite-HRNet against its formulas, its checkpoints' names and its sizes."""

import pytest
import torch
import torch.nn.functional as F

from exporter.build import build_model, list_models, load_weights
from exporter.build.litehrnet import ConditionalChannelWeighting, HighResolutionModule, shuffled
from exporter.errors import DataError, UsageError
from exporter.recipe import load_recipe, read_labels, recipe_names

NAMES = [info.name for info in list_models() if "litehrnet" in info.name]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_shuffled_takes_channels_of_both_halves_in_turn():
    a, b = noise(1, 3, 2, 2, seed=1), noise(1, 3, 2, 2, seed=2)
    expected = torch.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1], a[:, 2], b[:, 2]], 1)
    assert torch.equal(shuffled(a, b), expected)


def test_fusion_doubles_the_first_branch_and_its_unclipped_sum():
    module = HighResolutionModule("naive", [4, 8, 16]).eval()
    module.layers = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
    x0, x1, x2 = (noise(1, 4 << i, 16 >> i, 16 >> i, seed=i) for i in range(3))
    f = module.fuse_layers
    with torch.no_grad():
        y0 = 2 * x0 + f[0][1](x1) + f[0][2](x2)
        y1 = 2 * f[1][0](y0) + x1 + f[1][2](x2)
        y2 = 2 * f[2][0](y0) + f[2][1](x1) + x2
        results = module([x0, x1, x2])
    assert (y0 < 0).any()
    for result, expected in zip(results, [y0, y1, y2], strict=True):
        torch.testing.assert_close(result, F.relu(expected))


def test_a_lite_block_lets_half_of_the_channels_pass():
    block = ConditionalChannelWeighting([8, 16]).eval()
    xs = [noise(1, 8, 8, 8), noise(1, 16, 4, 4)]
    with torch.no_grad():
        ys = block(xs)
    for x, y in zip(xs, ys, strict=True):
        assert torch.equal(y[:, ::2], x[:, : x.shape[1] // 2])


@pytest.mark.parametrize("rename", [
    lambda name: name,
    lambda name: name.replace("keypoint_head.", "head."),
    lambda name: name.replace("keypoint_head.", ""),
], ids=["mmpose 0.x", "mmpose 1.x", "bare"])  # fmt: skip
def test_checkpoints_load_under_each_naming(rename):
    model = build_model("naive_litehrnet_18")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for tensor in model.parameters():
        tensor.data.zero_()
    load_weights(model, {"meta": {}, "state_dict": {rename(name): tensor for name, tensor in state.items()}})
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_weights_of_mpii_ask_for_sixteen_joints():
    state = build_model("litehrnet_18_mpii").state_dict()
    with pytest.raises(DataError, match="--num-classes 16"):
        load_weights(build_model("litehrnet_18"), state)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_gives_its_heatmaps_or_logits(name):
    segments = name.endswith("segmentation")
    with torch.device("meta"):
        model = build_model(name, image_size=(64, 96))
        y = model(torch.empty(1, 3, 64, 96))
    size = (64, 96) if segments else (16, 24)
    assert y.shape == (1, model.num_classes, *size)
    assert model.output_names == ("logits" if segments else "heatmaps",)


@pytest.mark.parametrize("size", [(250, 192), (256, 200), (16, 32)])
def test_a_size_that_the_branches_cannot_halve_is_refused(size):
    with pytest.raises(UsageError, match="multiples of 32"):
        build_model("litehrnet_18", image_size=size)


@pytest.mark.parametrize("name", [name for name in recipe_names() if "litehrnet" in name])
def test_recipes_label_every_joint_or_class_and_fit_their_model(name):
    recipe = load_recipe(name, weights="random")
    info = next(info for info in list_models() if info.name == recipe.model)
    assert len(set(read_labels(recipe))) == info.num_classes == len(read_labels(recipe))
    assert recipe.preprocess.size == info.image_size
    assert (recipe.preprocess.mean, recipe.preprocess.std) == (info.mean, info.std)
    assert recipe.title == name
