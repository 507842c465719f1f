"""conv2d: strides, pads, dilations, groups, ranges, fused activations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import Tensor, nn

from exporter.errors import UnsupportedError


def padded(widths: tuple[int, int, int, int], *conv: int, **options: int) -> nn.Module:
    """A zero pad (left, right, top, bottom) in front of a convolution."""
    return nn.Sequential(nn.ZeroPad2d(widths), nn.Conv2d(*conv, **options))


def with_weight(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """`conv` whose weight is multiplied by `weight`, and with that bias."""
    with torch.no_grad():
        conv.weight *= weight
        if bias is not None:
            conv.bias.copy_(bias)
    return conv


def spread(channels: int) -> Tensor:
    """Factors 1e-3 to 1e3 per output channel."""
    return torch.logspace(-3, 3, channels).reshape(-1, 1, 1, 1)


NINE, WIDE = torch.tensor(9.0), torch.linspace(-9, 9, 4)
ONE_ZERO = torch.tensor([1, 0, 1, 1.0]).reshape(-1, 1, 1, 1)

CASES = [
    pytest.param(lambda: nn.Conv2d(3, 8, 1), (1, 3, 8, 8), id="1x1"),
    pytest.param(lambda: nn.Conv2d(3, 8, 1, 2), (1, 3, 9, 8), id="1x1-stride-2"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3), (1, 3, 8, 8), id="valid"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, padding=1), (1, 3, 8, 8), id="same"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), (1, 3, 8, 8), id="no-bias"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, 2, 1), (1, 3, 8, 8), id="stride-2-even-size"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, 2, 1), (1, 3, 9, 9), id="stride-2-odd-size"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, 2, 1), (1, 3, 9, 8), id="stride-2-odd-and-even"),
    pytest.param(lambda: nn.Conv2d(3, 8, 7, 2, 3), (1, 3, 16, 16), id="7x7-stem"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, 1, 2), (1, 3, 6, 6), id="more-than-same"),
    pytest.param(lambda: nn.Conv2d(3, 8, 2, padding="same"), (1, 3, 7, 7), id="even-kernel-same"),
    pytest.param(lambda: padded((0, 1, 0, 1), 3, 8, 3, 2), (1, 3, 8, 8), id="tf-same-even-size"),
    pytest.param(lambda: padded((1, 2, 1, 2), 3, 8, 5, 2), (1, 3, 8, 8), id="tf-same-5x5"),
    pytest.param(lambda: padded((1, 0, 1, 0), 3, 8, 3, 2), (1, 3, 8, 8), id="caffe-same"),
    pytest.param(lambda: padded((2, 0, 0, 0), 3, 8, 3), (1, 3, 8, 8), id="pad-left-alone"),
    pytest.param(lambda: nn.Conv2d(3, 8, (1, 7), padding=(0, 3)), (1, 3, 8, 8), id="1x7"),
    pytest.param(lambda: nn.Conv2d(3, 8, (5, 3), (1, 2), (2, 1)), (1, 3, 7, 9), id="rectangular-stride"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, padding=2, dilation=2), (1, 3, 8, 8), id="dilation-2-same"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, dilation=2), (1, 3, 8, 8), id="dilation-2-valid"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, padding=(1, 3), dilation=(1, 3)), (1, 3, 8, 8), id="dilation-1-and-3"),
    pytest.param(lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2), (1, 8, 8, 8), id="groups-2"),
    pytest.param(lambda: nn.Conv2d(8, 4, 3, 2, 1, groups=4), (1, 8, 9, 9), id="groups-4-stride-2"),
    pytest.param(lambda: nn.Conv2d(12, 12, 3, padding=1, groups=4), (1, 12, 8, 8), id="groups-4-joined-to-2"),
    pytest.param(lambda: nn.Conv2d(12, 36, 3, padding=1, groups=6), (1, 12, 8, 8), id="groups-6-of-2-to-6"),
    pytest.param(lambda: nn.Conv2d(48, 24, 3, padding=1, groups=3), (1, 48, 8, 8), id="groups-3-too-wide-to-join"),
    pytest.param(lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (1, 8, 8, 8), id="depthwise"),
    pytest.param(lambda: nn.Conv2d(8, 8, 3, 2, 1, groups=8), (1, 8, 8, 8), id="depthwise-stride-2-even-size"),
    pytest.param(lambda: nn.Conv2d(8, 8, 5, 2, 2, groups=8), (1, 8, 9, 9), id="depthwise-5x5-stride-2-odd-size"),
    pytest.param(lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8), (1, 8, 8, 8), id="depthwise-multiplier-2"),
    pytest.param(lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), (1, 8, 8, 8), id="depthwise-dilation-2"),
    pytest.param(lambda: nn.Conv2d(1, 8, 3, padding=1), (1, 1, 8, 8), id="one-input-channel"),
    pytest.param(lambda: nn.Conv2d(8, 1, 3, padding=1), (1, 8, 8, 8), id="one-output-channel"),
    pytest.param(lambda: nn.Conv2d(1, 1, 3, padding=1), (1, 1, 8, 8), id="one-channel-each"),
    pytest.param(lambda: nn.Conv2d(3, 8, 3, padding=1), (2, 3, 8, 8), id="batch-2"),
    pytest.param(lambda: nn.Conv2d(8, 8, 1), (1, 8, 1, 1), id="one-pixel"),
    pytest.param(lambda: nn.Conv2d(3, 8, 5, padding=2), (1, 3, 2, 2), id="kernel-larger-than-image"),
    pytest.param(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (1, 3, 8, 8), id="relu"),
    pytest.param(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6()), (1, 3, 8, 8), id="relu6-below-6"),
    pytest.param(lambda: nn.Sequential(with_weight(nn.Conv2d(3, 8, 3), NINE), nn.ReLU6()), (1, 3, 8, 8), id="at-6"),
    pytest.param(lambda: with_weight(nn.Conv2d(3, 4, 3), spread(4)), (1, 3, 8, 8), id="weights-1e6-apart"),
    pytest.param(lambda: with_weight(nn.Conv2d(3, 4, 3), NINE * 1e-7, WIDE), (1, 3, 8, 8), id="bias-dwarfs-weights"),
    pytest.param(lambda: with_weight(nn.Conv2d(3, 4, 3), ONE_ZERO), (1, 3, 8, 8), id="a-channel-of-zeros"),
    pytest.param(lambda: nn.Conv2d(256, 4, 3, padding=1), (1, 256, 4, 4), id="accumulator-beyond-2**24"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_float(model, shape):
    check_float(model(), image(*shape))


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_int8(model, shape):
    check_int8(model(), image(*shape))


@pytest.mark.parametrize(
    ("channels", "groups", "stored"),
    [((128, 128), 32, 8), ((64, 64), 32, 8), ((12, 12), 4, 6), ((12, 36), 6, 2), ((16, 8), 4, 8), ((32, 32), 4, 8),
     ((48, 24), 3, 16), ((14, 14), 7, 2)],
)  # fmt: skip
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_narrow_groups_are_joined_up_to_8_channels(check, channels, groups, stored):
    """`stored` is the input channels of a group in the file."""
    result = check(nn.Conv2d(*channels, 3, padding=1, groups=groups), image(1, channels[0], 6, 6))
    assert result.ops == ["CONV_2D"]
    (weight,) = (t for t in result.file.tensors if len(t.shape) == 4 and t.shape[0] == channels[1])
    assert weight.shape[3] == stored


RANGES = [
    pytest.param(0.0, 1.0, id="positive"),
    pytest.param(-1.0, 0.0, id="negative"),
    pytest.param(4.0, 6.0, id="far-above-zero"),
    pytest.param(-0.1, 4.0, id="asymmetric"),
    pytest.param(-500.0, 500.0, id="wide"),
    pytest.param(-0.002, 0.002, id="below-the-smallest-scale"),
]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_int8_input_ranges(low, high):
    check_int8(nn.Conv2d(3, 8, 3, padding=1), image(1, 3, 8, 8, low=low, high=high))


def test_padding_holds_the_zero_point():
    """An explicit PAD in front of an int8 convolution pads with the code of zero, not with code 0."""
    result = check_int8(padded((3, 0, 3, 0), 3, 8, 3), image(1, 3, 8, 8, low=2.0, high=4.0))
    assert result.ops == ["PAD", "CONV_2D"]


def test_a_weight_computed_from_the_input_is_refused():
    with pytest.raises(UnsupportedError, match="weight is computed from the input"):
        check_float(F.conv2d, image(1, 3, 8, 8), image(4, 3, 1, 1))
