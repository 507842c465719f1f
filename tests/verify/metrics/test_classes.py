"""Which class a name in a labelled set means."""

from __future__ import annotations

import pytest

from exporter.errors import DataError, UsageError
from exporter.verify.metrics.classes import class_numbers

LABELS = ("tench", "great white shark", "crane", "crane", "bell_cote")


@pytest.mark.parametrize(
    ("names", "labels", "count", "numbers"),
    [
        (["tench", "Great_White  Shark", "Bell cote"], LABELS, 5, [0, 1, 4]),
        (["0", "4"], LABELS, 5, [0, 4]),
        (["4", "0"], (), 5, [4, 0]),
        (["cat", "dog"], (), 2, [0, 1]),
        (["n01440764", "n01443537"], ("tench", "goldfish"), 2, [0, 1]),
        (["1", "0"], ("0", "1"), 2, [1, 0]),
    ],
    ids=["labels", "numbers", "numbers of unnamed", "in order", "WordNet", "labels that are numbers"],
)
def test_a_name_is_a_class(names, labels, count, numbers):
    assert list(class_numbers(names, labels, count, "set").values()) == numbers


def test_every_unknown_name_is_named_with_the_nearest_label():
    with pytest.raises(DataError, match="2 of 3 classes of set are not the model's") as raised:
        class_numbers(["tench", "tensh", "crane"], LABELS, 5, "set")
    assert raised.value.where == ("tensh  did you mean tench?", "crane  is the label of classes 2 and 3")


def test_too_few_names_of_unnamed_classes_mean_nothing():
    with pytest.raises(DataError, match="set has 1 classes, and the model 5 unnamed ones"):
        class_numbers(["cat"], (), 5, "set")


def test_labels_must_be_those_of_the_model():
    with pytest.raises(UsageError, match="the recipe has 5 labels, and the model 10 classes"):
        class_numbers(["tench"], LABELS, 10, "set")
