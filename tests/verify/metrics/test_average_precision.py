"""COCO's average precision: cases that can be checked by hand, and pycocotools' own summary."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from exporter.verify.metrics.precision import AveragePrecision

LABEL = {"category_id": 7, "bbox": [100.0, 100.0, 100.0, 100.0], "area": 1e4, "iscrowd": 0}


def result(shift=0.0, score=0.9, category=7):
    return {"category_id": category, "bbox": [100.0 + shift, 100.0, 100.0, 100.0], "area": 1e4, "score": score}


def judged(*images, categories=(7,)):
    metric = AveragePrecision(len(images), categories)
    for number, (labelled, found) in enumerate(images):
        metric.add(number, labelled, found)
    return metric.values()


@pytest.mark.parametrize(
    ("found", "figures"),
    [
        ([result()], [1, 1, 1]),
        ([result(20)], [0.4, 1, 0]),
        ([result(10)], [0.7, 1, 1]),
        ([result(40)], [0, 0, 0]),
        ([], [0, 0, 0]),
        ([result(300, score=0.95), result()], [0.5, 0.5, 0.5]),
        ([result(), result(300, score=0.5)], [1, 1, 1]),
        ([result(), result(0, score=0.5)], [1, 1, 1]),
    ],
    ids=["perfect", "IoU 2/3", "IoU 9/11", "IoU 3/7", "nothing", "wrong one ahead", "wrong one behind", "twice"],
)
def test_one_box(found, figures):
    assert judged(([LABEL], found)) == pytest.approx(figures)


def test_half_of_two_boxes_reaches_recalls_up_to_a_half():
    """51 of the 101 recalls: 0 to 0.5."""
    assert judged(([LABEL], [result()]), ([LABEL], [])) == pytest.approx([51 / 101] * 3)


def test_a_crowd_neither_counts_nor_blames():
    labelled = [{**LABEL, "iscrowd": 1}, {**LABEL, "bbox": [400.0, 100.0, 100.0, 100.0]}]
    assert judged((labelled, [result(), result(300)])) == pytest.approx([1, 1, 1])


def test_categories_count_alike_and_those_without_labels_do_not():
    images = [([LABEL, {**LABEL, "category_id": 2}], [result(), result(category=2, shift=300), result(category=9)])]
    assert judged(*images, categories=(7, 2, 9)) == pytest.approx([0.5, 0.5, 0.5])


def test_nothing_labelled_gives_no_figure():
    assert np.isnan(judged(([], [result()]))).all()


def scattered(count=12, categories=(1, 3, 4)):
    """Images with random boxes, some found nearby, some missed, some invented."""
    rng = np.random.default_rng(3)
    images = []
    for _ in range(count):
        labelled, found = [], []
        for _ in range(rng.integers(0, 6)):
            box = rng.uniform(10, 200, 4)
            category = int(rng.choice(categories))
            crowd = int(rng.random() < 0.1)
            labelled.append({"category_id": category, "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": crowd})
            for _ in range(rng.integers(0, 3)):
                near = box + rng.normal(0, 12, 4)
                near[2:] = near[2:].clip(1)
                category = category if rng.random() < 0.9 else 1
                score = float(rng.random())
                found.append(
                    {"category_id": category, "bbox": near.tolist(), "area": near[2] * near[3], "score": score}
                )
        images.append((labelled, found))
    return images, categories


def summary(images, categories):
    """COCOeval as its own demo uses it, on everything at once."""
    ids = [{"id": i} for i in range(1, len(images) + 1)]
    truth, found = COCO(), COCO()
    with redirect_stdout(io.StringIO()):
        for index, (coco, side) in enumerate(((truth, 0), (found, 1))):
            entries = [{**e, "image_id": i} for i, image in enumerate(images, 1) for e in image[side]]
            coco.dataset = {"images": ids, "categories": [{"id": c} for c in categories]}
            coco.dataset["annotations"] = [{**e, "id": n} for n, e in enumerate(entries, 1)]
            coco.createIndex()
            assert index in (0, 1)
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[:3]


def test_image_by_image_is_pycocotools_summary_of_all():
    images, categories = scattered()
    figures = judged(*images, categories=categories)
    assert figures == pytest.approx(summary(images, categories), abs=1e-12)
    assert 0.1 < figures[0] < 0.9


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_images_that_occur_so_often(seed):
    images, categories = scattered()
    metric = AveragePrecision(len(images), categories)
    for number, (labelled, found) in enumerate(images):
        metric.add(number, labelled, found)
    weights = np.random.default_rng(seed).integers(0, 3, len(images))
    repeated = [image for image, weight in zip(images, weights, strict=True) for _ in range(weight)]
    assert metric.values(weights) == pytest.approx(summary(repeated, categories), abs=0.01)
    assert metric.values(np.ones(len(images))) == pytest.approx(metric.values(), abs=1e-12)
