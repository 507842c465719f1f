"""The recipes that come with the project."""

from __future__ import annotations

import pytest

from exporter.build import list_models, model_info
from exporter.recipe import load_recipe, read_labels, recipe_names

RECIPES = {name: load_recipe(name) for name in recipe_names()}


def test_every_model_has_a_recipe():
    assert {info.name for info in list_models()} <= {recipe.model for recipe in RECIPES.values()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_agrees_with_the_facts_of_its_model(name):
    recipe = RECIPES[name]
    info = model_info(recipe.model)
    assert recipe.title == (name if name != recipe.model else info.name)
    assert recipe.weights == "random" or recipe.weights in info.checkpoints
    assert (recipe.preprocess.mean, recipe.preprocess.std) == (info.mean, info.std)
    classes = recipe.num_classes or info.num_classes
    assert len(read_labels(recipe)) in (0, classes)
    assert recipe.preprocess.size == info.image_size or name != recipe.model
