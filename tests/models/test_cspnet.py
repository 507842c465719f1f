"""The parts of CSPNet: the partial stage, its three fusions, the features for detectors."""

import pytest
import torch
from torch import nn

from exporter.build import build_model
from exporter.build.cspnet import CONFIGS, CrossStage, CSPBackbone
from exporter.errors import UsageError


class Double(nn.Module):
    """Blocks whose effect is easy to see."""

    def forward(self, x):
        return 2 * x


def stage(fusion, **options):
    torch.manual_seed(0)
    return CrossStage(8, Double(), 4, 4, 6, fusion=fusion, **options).eval()


X = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(1))
CROSS, PART = X[:, :4], X[:, 4:]


def test_full_fusion_is_transition_concat_transition():
    model = stage("full")
    expected = model.conv_transition(torch.cat([CROSS, model.conv_transition_b(2 * PART)], 1))
    torch.testing.assert_close(model(X), expected)
    assert {name.split(".")[0] for name in model.state_dict()} == {"conv_transition_b", "conv_transition"}


def test_fusion_first_is_concat_transition():
    model = stage("first")
    torch.testing.assert_close(model(X), model.conv_transition(torch.cat([CROSS, 2 * PART], 1)))
    assert {name.split(".")[0] for name in model.state_dict()} == {"conv_transition"}


def test_fusion_last_is_transition_concat():
    model = stage("last")
    torch.testing.assert_close(model(X), torch.cat([CROSS, model.conv_transition_b(2 * PART)], 1))
    assert {name.split(".")[0] for name in model.state_dict()} == {"conv_transition_b"}


@pytest.mark.parametrize("fusion", ["full", "first", "last"])
def test_every_fusion_gives_the_outputs_asked_for_behind_its_pool(fusion):
    assert stage(fusion, pool=nn.AvgPool2d(2))(X).shape == (1, 6, 2, 2)


def test_fusion_last_without_room_for_the_block_is_refused():
    with pytest.raises(ValueError, match="more than 4 outputs"):
        CrossStage(8, Double(), 4, 4, 4, fusion="last")


@pytest.mark.parametrize(
    ("name", "channels"),
    [("cspresnet50", (256, 512, 1024)), ("cspresnext50", (512, 1024, 2048)), ("cspdarknet53", (256, 512, 1024))],
)
def test_features_are_c3_to_c5(name, channels):
    with torch.device("meta"):
        backbone = CSPBackbone(CONFIGS[name], (64, 96))
        features = backbone.features(torch.empty(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, c, 64 >> level, 96 >> level) for level, c in zip((3, 4, 5), channels, strict=True)
    ]
    assert tuple(backbone.channels.values()) == channels


def test_a_backbone_takes_the_classifiers_weights():
    classifier = build_model("cspdarknet53", 32)
    backbone = CSPBackbone(CONFIGS["cspdarknet53"], (32, 32)).eval()
    state = {name: t for name, t in classifier.state_dict().items() if not name.startswith("head.")}
    backbone.load_state_dict(state)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.features(x)[-1], classifier.features(x)[-1])


def test_a_picture_of_less_than_one_cell_is_a_usage_error():
    with pytest.raises(UsageError, match="halves the image 5 times"):
        build_model("cspresnet50", (31, 64))
