"""The recipes that come with the project."""

from __future__ import annotations

import pytest

from exporter.build import list_models, model_info
from exporter.recipe import load_recipe, read_labels, recipe_names

RECIPES = {name: load_recipe(name, weights="random") for name in recipe_names()}
"""As published: demo weights have a size, classes and labels of their own."""


DEMO = {"csppeleenet", "efficientdet_d0", "efficientdet_d0_nms", "fasternet_t0", "litehrnet_18_coco"}


def test_every_model_has_a_recipe():
    assert {info.name for info in list_models()} <= {recipe.model for recipe in RECIPES.values()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_agrees_with_the_facts_of_its_model(name):
    recipe = RECIPES[name]
    info = model_info(recipe.model)
    assert recipe.title == (name if name != recipe.model else info.name)
    assert load_recipe(name).weights == ("demo" if name in DEMO else "random")
    assert (recipe.preprocess.mean, recipe.preprocess.std) == (info.mean, info.std)
    classes = recipe.num_classes or info.num_classes
    assert len(read_labels(recipe)) in (0, classes)
    assert recipe.preprocess.size == info.image_size or name != recipe.model
