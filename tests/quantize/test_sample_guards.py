"""Warnings of calibration data: un-normalised, of one colour, repeated; and silence on what is fine."""

from __future__ import annotations

import pytest
import torch
from parity import simplified
from PIL import Image
from torch import Tensor, nn

from exporter.build import build_model, refit_batchnorm
from exporter.capture import capture
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.quantize.preprocess import Preprocess
from exporter.quantize.sample_guards import Watch, batchnorm_warnings

IMAGENET = Preprocess(size=(64, 64))
LETTERBOX = Preprocess(size=(64, 64), resize="letterbox")
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))


def pictures(preprocess: Preprocess = IMAGENET, count: int = 12) -> list[Tensor]:
    return list(load_samples(default_samples_dir(), preprocess, count))


def pixels(scale: float) -> list[Tensor]:
    """The same pictures with pixels in 0..scale."""
    return [(x * STD + MEAN) * scale for x in pictures()]


def told(samples: list[Tensor], preprocess: Preprocess | None = None) -> list[str]:
    watch = Watch()
    assert all(x is y for x, (y,) in zip(samples, watch.over((x,) for x in samples), strict=True))
    return watch.warnings([f"p{i}.png" for i in range(len(samples))], preprocess)


@pytest.fixture(scope="module")
def fitted() -> nn.Module:
    torch.manual_seed(0)
    module = build_model("fasternet_t0", (64, 64), 10)
    refit_batchnorm(module, [torch.cat(pictures(count=8))])
    return module.eval()


def at_batchnorm(module: nn.Module, samples: list[Tensor]) -> list[str]:
    return batchnorm_warnings(module, [(x,) for x in samples], capture(module, (samples[0],)))


# --- what the recipe declares -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1, 255])
def test_arrays_of_pixels_are_called_out(scale):
    (warning,) = told(pixels(scale), IMAGENET)
    assert warning.startswith("calibration data looks un-normalised: its values span [0, ")


def test_arrays_normalised_twice_are_called_out():
    (warning,) = told([(x - MEAN) / STD for x in pictures()], IMAGENET)
    assert "un-normalised" in warning


def test_normalised_arrays_are_fine():
    assert told(pictures(), IMAGENET) == []


def test_pixels_are_fine_where_the_recipe_wants_them():
    assert told(pixels(1), Preprocess(size=(64, 64), mean=(0, 0, 0), std=(1, 1, 1))) == []


# --- what the weights expect ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1, 255])
def test_pixels_at_a_network_trained_on_normalised_pictures(fitted, scale):
    (warning,) = at_batchnorm(fitted, pixels(scale))
    assert "at the first BatchNorm, patch_embed.norm (fasternet.py:" in warning


def test_the_pictures_that_a_network_was_trained_on(fitted):
    assert at_batchnorm(fitted, pictures()) == []


def test_a_batchnorm_that_was_folded_is_named_with_the_line_beside_it(fitted):
    samples = [(x,) for x in pixels(255)]
    (warning,) = batchnorm_warnings(fitted, samples, simplified(fitted, *samples[0]))
    assert "patch_embed.norm (fasternet.py:" in warning


def test_padding_changes_little(fitted):
    assert at_batchnorm(fitted, pictures(LETTERBOX)) == []


def test_untrained_statistics_say_nothing():
    module = build_model("fasternet_t0", (64, 64), 10)
    assert at_batchnorm(module, pixels(255)) == []


def test_a_network_without_batchnorm_says_nothing():
    assert at_batchnorm(nn.Conv2d(3, 4, 3), pixels(255)) == []


def test_no_hook_stays(fitted):
    at_batchnorm(fitted, pictures(count=2))
    assert not any(part._forward_pre_hooks for part in fitted.modules())


# --- one colour, and the same again -----------------------------------------------------------------------------------
@pytest.mark.parametrize("preprocess", [IMAGENET, LETTERBOX], ids=["stretch", "letterbox"])
def test_black_pictures_are_named(preprocess):
    black = preprocess.apply(Image.new("RGB", (96, 48)))[None]
    (warning,) = [text for text in told([black, black + 0, *pictures(preprocess, 7)]) if "colour" in text]
    assert warning.startswith("2 of 9 calibration samples are of one colour (p0.png, p1.png)")


def test_one_black_picture_among_many_is_fine():
    assert told([torch.full((1, 3, 64, 64), -2.0), *pictures(count=12)]) == []


def test_repeated_pictures_are_named():
    (warning,) = told(pictures(count=4) * 2)
    assert warning.startswith("4 of 8 calibration samples repeat another (p4.png = p0.png, ")
    assert "1 more" in warning


def test_vectors_have_no_channels():
    vectors = [torch.randn(1, 10, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    assert told(vectors) == []
    (warning,) = told([torch.full((1, 10), 0.5), torch.full((1, 10), 0.25), *vectors[:4]])
    assert "2 of 6 calibration samples are of one colour" in warning
