"""`weights: demo`: which recipes have them, what they bring, and what goes over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.demo.scenes import CLASSES, THINGS
from benchmarks.demo.train import COURSES
from exporter.build import build_model, load_weights, model_info
from exporter.builtin import demo_card, demo_models, demo_weights, recipes_dir
from exporter.errors import UsageError
from exporter.quantize.data import load_samples
from exporter.recipe import load_recipe, read_labels

MODELS = ["csppeleenet", "efficientdet_d0", "fasternet_t0", "litehrnet_18"]
RECIPES = {"litehrnet_18": "litehrnet_18_coco"}


def test_these_models_have_them():
    assert demo_models() == MODELS == sorted(COURSES)


def test_they_are_small():
    sizes = [demo_weights(model).stat().st_size for model in MODELS]
    assert max(sizes) <= 8_000_000
    assert sum(sizes) <= 24_000_000


@pytest.mark.parametrize("model", MODELS)
def test_the_file_holds_the_whole_model_as_float16(model):
    state = load_file(demo_weights(model))
    wide = {name: value for name, value in state.items() if value.dtype != torch.float16}
    assert [name for name, value in wide.items() if value.half().isfinite().all()] == []
    assert not [name for name in state if "num_batches_tracked" in name]
    recipe = load_recipe(model)
    load_weights(build_model(model, recipe.preprocess.size, recipe.num_classes), demo_weights(model))


@pytest.mark.parametrize("model", MODELS)
def test_every_one_has_a_card_with_its_figures(model):
    text = (recipes_dir().parent / demo_card(model)).read_text()
    for said in ("PyTorch, float32", "LiteRT, int8, default", "500 pictures", "seed 0", "Apache-2.0"):
        assert said in text
    size = load_recipe(model).preprocess.size
    assert f"input {size[0]} x {size[1]}" in text


@pytest.mark.parametrize("model", MODELS)
def test_the_recipes_have_them_by_default_with_what_they_need(model):
    for name in (model, RECIPES.get(model, model)):
        recipe = load_recipe(name)
        assert recipe.weights == "demo"
        assert len(read_labels(recipe)) == recipe.num_classes == COURSES[model].classes
        assert recipe.preprocess.size == COURSES[model].stages[-1].size
        assert (recipe.preprocess.mean, recipe.preprocess.std) == (model_info(model).mean, model_info(model).std)
        assert Path(recipe.calibration.source).is_dir()
        assert Path(recipe.evaluation.source).exists()
        assert recipe.evaluation.brief


def test_labels_are_the_generators():
    assert read_labels(load_recipe("efficientdet_d0")) == THINGS
    assert read_labels(load_recipe("fasternet_t0")) == read_labels(load_recipe("csppeleenet")) == CLASSES


@pytest.mark.parametrize("model", MODELS)
def test_pictures_of_the_sample_are_taken_pixel_by_pixel(model):
    """As in training: none is resized or cut."""
    recipe = load_recipe(model)
    samples = load_samples(recipe.calibration.source, recipe.preprocess, 1)
    mean, std = (
        np.array(value, np.float32).reshape(3, 1, 1) for value in (recipe.preprocess.mean, recipe.preprocess.std)
    )
    (x,) = next(samples.feeds())
    pixels = np.asarray(Image.open(samples.files[0]), np.float32).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(x[0].numpy(), (pixels - mean) / std, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "weights", "size", "labels"),
    [
        ("efficientdet_d0", "coco", (512, 512), 90),
        ("efficientdet_d0_nms", "coco", (512, 512), 90),
        ("fasternet_t0", "imagenet", (224, 224), 1000),
        ("litehrnet_18_coco", "coco", (256, 192), 17),
        ("csppeleenet", "random", (224, 224), 1000),
        ("efficientdet_d0", "mine.pth", (512, 512), 90),
    ],
)
def test_other_weights_leave_the_recipe_as_published(name, weights, size, labels):
    recipe = load_recipe(name, weights=weights)
    assert recipe.preprocess.size == size
    assert recipe.num_classes is None
    assert len(read_labels(recipe)) == labels
    assert (recipe.calibration.source, recipe.evaluation.source) == (None, None)
    assert not recipe.evaluation.brief


def test_what_is_given_goes_over_them():
    recipe = load_recipe(
        "efficientdet_d0",
        preprocess={"size": (128, 128)},
        calibration={"source": "here"},
        evaluation={"source": "there.json"},
    )
    assert recipe.preprocess.size == (128, 128)
    assert recipe.calibration.source == "here"
    assert recipe.evaluation.source == "there.json"
    assert not recipe.evaluation.brief
    assert load_recipe("efficientdet_d0", num_classes=8).num_classes == 8
    assert load_recipe("efficientdet_d0", evaluation={"limit": 5}).evaluation.brief


def test_a_users_own_recipe_goes_over_them_too(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: fasternet_t0\nweights: demo\npreprocess: {size: [64, 64]}\n")
    recipe = load_recipe(str(path))
    assert (recipe.preprocess.size, recipe.num_classes) == ((64, 64), len(CLASSES))
    path.write_text("model: fasternet_t0\n")
    assert load_recipe(str(path)).weights == "random"
    assert load_recipe("recipes/fasternet_t0.yaml" if Path("recipes").is_dir() else "fasternet_t0").weights == "demo"


@pytest.mark.parametrize("given", [{"num_classes": 3}, {"num_classes": 90}])
def test_another_number_of_classes_is_refused(given):
    with pytest.raises(UsageError, match="the demo weights of efficientdet_d0 have 8 classes, not") as caught:
        load_recipe("efficientdet_d0", **given)
    assert "--weights random" in str(caught.value)
    assert load_recipe("efficientdet_d0", weights="random", **given).num_classes == given["num_classes"]


@pytest.mark.parametrize("model", ["cspresnet50", "fasternet_t1"])
def test_a_model_without_them_names_those_that_have(model):
    assert load_recipe(model).weights == "random"
    with pytest.raises(UsageError, match=f"{model} has no demo weights") as caught:
        load_recipe(model, weights="demo")
    assert "fasternet_t0" in str(caught.value)
    assert "--weights random" in str(caught.value)


def test_a_users_own_model_has_none():
    with pytest.raises(UsageError, match="net:make has no demo weights"):
        load_recipe("net:make", weights="demo")
