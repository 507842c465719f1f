"""Pyramid fusions after the CSPNet paper: which maps meet where, and the Maxout that joins them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image

from exporter.build import build_model, model_info, refit_batchnorm
from exporter.build.cspnet import CONFIGS, CSPBackbone
from exporter.build.darknet import Backbone
from exporter.build.darknet_variants import DARKNET53
from exporter.build.fusion import LEVELS, FusionDetector, MaxoutFusion, sources
from exporter.build.yolo import CLASSIC

NAMES = ("csppeleenet_fpn", "csppeleenet_gfm", "csppeleenet_efm")


@pytest.mark.parametrize(("fusion", "wanted"), [
    ("fpn", [(3, 4), (4, 5), (5,)]),
    ("gfm", [(3, 4, 5), (3, 4, 5), (3, 4, 5)]),
    ("efm", [(3, 4), (3, 4, 5), (4, 5)]),
])  # fmt: skip
def test_fpn_takes_the_coarser_map_gfm_all_and_efm_the_neighbours(fusion, wanted):
    assert [sources(fusion, level) for level in LEVELS] == wanted


def test_maxout_is_the_maximum_over_channel_groups_of_the_concatenation():
    torch.manual_seed(0)
    fuse = MaxoutFusion({3: 6, 4: 8, 5: 10}, 4, 16).eval()
    c3, c4, c5 = image(1, 6, 8, 12), image(1, 8, 4, 6, seed=2), image(1, 10, 2, 3, seed=3)
    with torch.no_grad():
        maps = [unit(x) for unit, x in zip(fuse.lateral.values(), (c3, c4, c5), strict=True)]
        joined = torch.cat([F.max_pool2d(maps[0], 2), maps[1], F.interpolate(maps[2], size=(4, 6))], 1)
        expected = joined.view(1, 3, 16, 4, 6).amax(1)
        assert torch.equal(fuse({3: c3, 4: c4, 5: c5}), expected)


BACKBONES = {
    "darknet": partial(Backbone, DARKNET53),
    "timm": partial(CSPBackbone, CONFIGS["cspresnext50"]),
}


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
def test_the_necks_take_the_features_of_other_backbones(backbone):
    with torch.device("meta"):
        model = FusionDetector(backbone, "efm", CLASSIC, (64, 96), 80)
        maps = model(torch.empty(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 255, 8, 12), (1, 255, 4, 6), (1, 255, 2, 3)]


@pytest.mark.parametrize("name", NAMES)
def test_no_official_weights_are_claimed(name):
    assert not model_info(name).official
    assert "no official weights or cfg exist" in model_info(name).source


@pytest.mark.parametrize("name", [*(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[:2]), NAMES[2]])
def test_float_and_int8_files(name):
    x = image(1, 3, 64, 96, low=0, high=1)
    model = build_model(name, (64, 96), 4)
    refit_batchnorm(model, [image(2, 3, 64, 96, low=0, high=1, seed=2)])
    exported = check_float(model, x, least=100)
    assert exported.ops.count("MAXIMUM") == {"csppeleenet_fpn": 2, "csppeleenet_gfm": 6, "csppeleenet_efm": 4}[name]
    assert "TRANSPOSE" not in exported.ops
    assert check_int8(model, x, least=15).islands == {}
