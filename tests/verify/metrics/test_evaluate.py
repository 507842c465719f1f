"""Runners on a labelled set: rows, drops and their paired intervals, progress, and what is refused before any work."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from exporter.errors import UsageError
from exporter.quantize.preprocess import Preprocess
from exporter.verify.metrics.evaluate import Runner, evaluate
from exporter.verify.metrics.labelled import open_labelled
from exporter.verify.metrics.protocol import Model

PREPROCESS = Preprocess(size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))
MODEL = Model(PREPROCESS, ((1, 3, 8, 8),), ((1, 2),))


@pytest.fixture
def folder(tmp_path):
    """Ten black and ten white pictures, in shades."""
    for name, base in (("black", 0), ("white", 200)):
        (tmp_path / name).mkdir()
        for shade in range(10):
            Image.new("RGB", (12, 10), (base + shade,) * 3).save(tmp_path / name / f"{shade}.png")
    return tmp_path


def by_brightness(threshold):
    """A runner that calls a picture white when it is brighter than that."""

    def run(samples):
        return ([torch.tensor([[threshold, float(x.mean()) * 255]])] for (x,) in samples)

    return run


def test_every_runner_is_judged_on_the_same_pictures(folder):
    steps = []
    runners = [
        Runner("PyTorch", "torch", by_brightness(100.0)),
        Runner("int8", "r", by_brightness(203.5), "tflite", True),
    ]
    found = evaluate(open_labelled(folder, MODEL), runners, progress=steps.append)
    assert [(row.file, row.metric, row.value) for row in found.scores] == [
        ("PyTorch", "top-1", 1.0),
        ("int8", "top-1", 0.8),  # four of ten white ones are called black
    ]
    assert (found.images, found.available, found.labels) == (20, 20, "2 of 2 classes")
    assert found.scores[0].drop is None
    assert found.scores[1].drop == pytest.approx(20)
    low, high = found.scores[1].drop_interval
    assert 0 < low < 20 < high < 50
    assert steps == sorted(steps)
    assert steps[-1] == 20


def test_equal_runners_have_no_interval_of_the_drop(folder):
    """The draws are paired: what is lost is nothing on every one of them."""
    runners = [Runner(name, "", by_brightness(203.5)) for name in ("PyTorch", "float32")]
    found = evaluate(open_labelled(folder, MODEL), runners)
    assert found.scores[1].drop_interval == (0, 0)
    assert found.scores[0].interval[0] < 0.8 < found.scores[0].interval[1]


def test_one_picture_has_no_interval(folder):
    found = evaluate(open_labelled(folder, MODEL, limit=1), [Runner("PyTorch", "", by_brightness(100.0))])
    assert (found.images, found.scores[0].interval) == (1, None)


def test_a_limit_takes_pictures_of_every_class(folder):
    found = open_labelled(folder, MODEL, limit=4)
    assert [name.split("/")[0] for name in found.names] == ["black", "black", "white", "white"]


def test_a_picture_of_which_the_content_was_calibrated_on_is_counted(folder):
    labelled = open_labelled(folder, MODEL)
    assert len(list(labelled)) == 20
    digest = labelled.digests()["white/3.png"]
    found = evaluate(labelled, [Runner("PyTorch", "", by_brightness(100.0))], calibrated_on=[digest, "0" * 64])
    assert found.seen_in_calibration == 1


@pytest.mark.parametrize("inputs", [((1, 1, 8, 8),), ((1, 3, 8, 8), (1, 4)), ((1, 3, 16, 16),)], ids=str)
def test_a_model_that_takes_other_than_one_picture_is_refused(folder, inputs):
    with pytest.raises(UsageError, match="labelled pictures judge a model that takes one picture"):
        open_labelled(folder, Model(PREPROCESS, inputs, ((1, 2),)))


def test_samples_are_what_calibration_makes_of_the_pictures(folder):
    first = next(iter(open_labelled(folder, MODEL)))
    with Image.open(folder / "black" / "0.png") as image:
        expected = PREPROCESS.apply(image)
    assert torch.equal(first.sample[0][0], expected)
    assert first.truth == 0
    assert expected.isfinite().all()
