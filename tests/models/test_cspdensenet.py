"""CSPDenseNet and CSPPeleeNet: the dense layers, the stem, the features, what is said about weights."""

import pytest
import torch
from torch import nn

from exporter.build import build_model, list_models, model_info, resolve
from exporter.build.cspdensenet import (
    CSPDENSENET,
    CSPPELEENET,
    CSPDenseBackbone,
    DenseLayer,
    PeleeStem,
    TwoWayDenseLayer,
)
from exporter.errors import UsageError

NAMES = [  # the classifiers: the detectors of csppeleenet are test_pyramid_fusion.py
    info.name
    for info in list_models()
    if info.name.startswith(("csppeleenet", "cspdensenet")) and info.task == "classification"
]
X = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(1))


def test_a_dense_layer_keeps_its_input_in_front_of_the_growth():
    layer = DenseLayer(8, 6, 12).eval()
    y = layer(X)
    assert torch.equal(y[:, :8], X)
    torch.testing.assert_close(y[:, 8:], layer.layer(X))


def test_the_two_ways_of_a_pelee_layer_see_3_and_5_pixels():
    layer = TwoWayDenseLayer(8, 6, 4).eval()
    pixel = torch.zeros(1, 8, 9, 9)
    pixel[:, :, 4, 4] = 1
    reach = (layer(pixel) - layer(torch.zeros_like(pixel)))[0].abs() > 0
    spans = [int(channel.any(0).sum()) for channel in reach]
    assert (spans[:8], spans[8:]) == ([1] * 8, [3] * 3 + [5] * 3)


def test_the_pelee_stem_joins_a_max_pool_with_a_strided_convolution():
    stem = PeleeStem(32).eval()
    x = torch.randn(1, 3, 16, 16)
    first = stem.conv1(x)
    expected = stem.conv3(torch.cat([nn.functional.max_pool2d(first, 2), stem.conv2(first)], 1))
    assert expected.shape == (1, 32, 4, 4)
    torch.testing.assert_close(stem(x), expected)


@pytest.mark.parametrize(
    ("config", "fusion", "channels"),
    [
        (CSPPELEENET, "full", (256, 512, 704)),
        (CSPPELEENET, "first", (256, 512, 704)),
        (CSPPELEENET, "last", (256, 512, 704)),
        (CSPDENSENET, "full", (288, 960, 1920)),
        (CSPDENSENET, "first", (512, 1792, 1920)),
        (CSPDENSENET, "last", (256, 896, 1920)),
    ],
)
def test_features_are_c3_to_c5(config, fusion, channels):
    with torch.device("meta"):
        backbone = CSPDenseBackbone(config, (64, 96), fusion)
        features = backbone.features(torch.empty(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, c, 64 >> level, 96 >> level) for level, c in zip((3, 4, 5), channels, strict=True)
    ]
    assert tuple(backbone.channels.values()) == channels


def test_every_fusion_is_a_model_of_the_command_line():
    ends = ("", "_fusion_first", "_fusion_last")
    assert [base + end for base in ("csppeleenet", "cspdensenet") for end in ends] == NAMES


@pytest.mark.parametrize("size", [(224, 225), (16, 32), (240, 224)])
def test_a_side_that_the_pools_would_cut_is_a_usage_error(size):
    with pytest.raises(UsageError, match="multiples of 32"):
        build_model("csppeleenet", size)


@pytest.mark.parametrize("name", NAMES)
def test_there_are_no_official_weights_and_every_message_says_so(name):
    assert not model_info(name).official
    assert "no official weights" in model_info(name).source
    with pytest.raises(UsageError, match=r"published for it: none; .*no official weights"):
        resolve(name, "imagenet")
