"""The parts of EfficientDet, each against its formula or the published table."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from exporter.build import build_model
from exporter.build.detection import level_size
from exporter.build.efficientdet import Combine, Config, EfficientDet, cell_edges
from exporter.build.efficientnet import SCALINGS, STAGES, EfficientNet
from exporter.build.layers import conv2d, max_pool_halve, same_padding

PLAIN = Config("b0", 8, 1, 1)


def combine(fusion: str, weights: list[float]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    node = Combine(dict.fromkeys(range(len(weights)), 8), replace(PLAIN, fusion=fusion))
    if fusion != "sum":
        node.edge_weights.data = torch.tensor(weights)
    values = [torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(len(weights))]
    with torch.no_grad():
        return node(values, (4, 4)), values


def test_fast_fusion_divides_positive_weights_by_their_sum():
    fused, (a, b, c) = combine("fast", [0.5, -2.0, 1.5])
    torch.testing.assert_close(fused, (0.5 * a + 0.0 * b + 1.5 * c) / (2.0 + 1e-4))


def test_fast_fusion_of_no_positive_weight_is_zero_not_nan():
    fused, _ = combine("fast", [-1.0, -2.0])
    assert torch.equal(fused, torch.zeros_like(fused))


def test_softmax_fusion_weighs_by_exponentials():
    fused, (a, b, c) = combine("softmax", [0.5, -2.0, 1.5])
    e = torch.tensor([0.5, -2.0, 1.5], dtype=torch.float64).exp()
    expected = ((e[0] * a + e[1] * b + e[2] * c) / e.sum()).float()
    torch.testing.assert_close(fused, expected)


def test_sum_fusion_has_no_weights():
    fused, (a, b) = combine("sum", [1.0, 1.0])
    torch.testing.assert_close(fused, a + b)
    assert not [name for name, _ in Combine({0: 8, 1: 8}, replace(PLAIN, fusion="sum")).named_parameters()]


@pytest.mark.parametrize("fusion", ["fast", "softmax", "sum"])
def test_the_whole_detector_runs_with_each_fusion(fusion):
    model = EfficientDet(Config("b0", 16, 2, 1, fusion=fusion), (64, 64), 2).eval()
    assert any("edge_weights" in name for name in model.state_dict()) == (fusion != "sum")
    with torch.no_grad():
        classes, _ = model(torch.zeros(1, 3, 64, 64))
    assert all(torch.isfinite(level).all() for level in classes)


def test_cell_of_five_levels_has_the_published_nodes():
    assert cell_edges(5) == [
        (3, (3, 4)), (2, (2, 5)), (1, (1, 6)), (0, (0, 7)),
        (1, (1, 7, 8)), (2, (2, 6, 9)), (3, (3, 5, 10)), (4, (4, 11)),
    ]  # fmt: skip


def test_d7x_has_a_sixth_level():
    with torch.device("meta"):
        model = build_model("tf_efficientdet_d7x", image_size=256)
        classes, boxes = model(torch.empty(1, 3, 256, 256))
    assert [level.shape[-1] for level in classes] == [32, 16, 8, 4, 2, 1]
    assert model.output_names[5] == "class_p8"
    assert len(model.output_names) == len(classes) + len(boxes)


@pytest.mark.parametrize(
    ("backbone", "stem", "repeats", "channels"),
    [
        ("b3", 40, (2, 3, 3, 5, 5, 6, 2), (24, 32, 48, 96, 136, 232, 384)),
        ("b5", 48, (3, 5, 5, 7, 7, 9, 3), (24, 40, 64, 128, 176, 304, 512)),
        ("b7", 64, (4, 7, 7, 10, 10, 13, 4), (32, 48, 80, 160, 224, 384, 640)),
        ("lite4", 32, (1, 4, 4, 6, 6, 8, 1), (24, 32, 56, 112, 160, 272, 448)),
    ],
)
def test_backbone_scaling_gives_the_published_stages(backbone, stem, repeats, channels):
    scaling = SCALINGS[backbone]
    assert tuple(scaling.repeats(i) for i in range(7)) == repeats
    assert tuple(scaling.channels(stage.channels) for stage in STAGES) == channels
    with torch.device("meta"):
        assert EfficientNet(backbone, (3, 4, 5), "same", 1e-3).conv_stem.out_channels == stem


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 224])
def test_same_padding_gives_ceil_size_and_puts_the_odd_pixel_last(size, kernel):
    before, after = same_padding(size, kernel, 2)
    outputs = -(-size // 2)
    assert (size + before + after - kernel) // 2 + 1 == outputs
    assert 0 <= after - before <= 1


@pytest.mark.parametrize(("size", "kernel", "pads"), [(8, 3, (0, 1)), (7, 3, (1, 1)), (8, 5, (1, 2)), (7, 5, (2, 2))])
def test_same_convolution_pads_as_tensorflow_does(size, kernel, pads):
    torch.manual_seed(0)
    conv = conv2d(2, 4, kernel, stride=2, padding="same")
    x = torch.randn(1, 2, size, size)
    expected = F.conv2d(F.pad(x, pads * 2), conv.weight, stride=2)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_max_pool_never_lets_the_padding_win(size, padding):
    pooled = max_pool_halve(torch.full((1, 1, size, size), -5.0), padding)
    assert torch.equal(pooled, torch.full((1, 1, -(-size // 2), -(-size // 2)), -5.0))


@pytest.mark.parametrize("name", ["efficientdet_d0", "tf_efficientdet_lite0"])
@pytest.mark.parametrize("size", [(32, 32), (65, 127), (100, 160), (129, 33)])
def test_sizes_that_are_no_multiple_of_128_give_ceil_levels(name, size):
    with torch.device("meta"):
        model = build_model(name, image_size=size)
        classes, boxes = model(torch.empty(1, 3, *size))
    expected = [(level_size(size[0], level), level_size(size[1], level)) for level in range(3, 8)]
    assert [tuple(t.shape[2:]) for t in classes] == expected
    assert [tuple(t.shape[2:]) for t in boxes] == expected
    assert model.anchors().shape == (9 * sum(h * w for h, w in expected), 4)


def test_segmenter_gives_logits_at_a_quarter_of_the_size():
    with torch.device("meta"):
        model = build_model("efficientdet_d4_seg", image_size=(128, 96), num_classes=5)
        logits = model(torch.empty(1, 3, 128, 96))
    assert logits.shape == (1, 5, 32, 24)


def test_an_untrained_head_expects_one_object_in_a_hundred():
    model = build_model("efficientdet_d0", image_size=128)
    assert torch.allclose(model.class_net.predict.conv_pw.bias.sigmoid(), torch.tensor(0.01))
