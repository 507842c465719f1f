"""Keypoints: OKS by the formula of cocodataset.org/#keypoints-eval, and PCK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from exporter.build.pose import Region
from exporter.verify.metrics.joints import JointPrecision, Person

WHOLE = Region((32.0, 32.0), (64.0, 64.0))
"""What the network sees: one pixel of a 64 x 64 heatmap is one of the picture."""
AREA, SIGMA = 900.0, 0.05
THRESHOLDS = np.arange(0.5, 1.0, 0.05)


def heatmaps(*points, height=0.9):
    maps = torch.zeros(1, len(points), 64, 64)
    for joint, (x, y) in enumerate(points):
        maps[0, joint, y, x] = height
    return [maps]


def person(*joints, box=(10.0, 10.0, 30.0, 40.0), **more):
    seen = sum(v > 0 for _, _, v in joints)
    flat = [float(value) for joint in joints for value in joint]
    entry = {"category_id": 1, "keypoints": flat, "num_keypoints": seen, "bbox": list(box), "area": AREA, "iscrowd": 0}
    return {**entry, **more}


def judged(*pictures, order=(0, 1), sigmas=(SIGMA, SIGMA)):
    """Pictures are lists of (heatmaps, annotation)."""
    metric = JointPrecision(len(pictures), 1, order, sigmas)
    for image, people in enumerate(pictures):
        everyone = [annotation for _, annotation in people]
        for outputs, annotation in people:
            metric.add(image, outputs, Person(WHOLE, annotation, everyone))
    return dict(zip(metric.names, metric.values().tolist(), strict=True))


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 4])
def test_oks_is_the_formula(distance):
    """exp(-d² / (2 s² k²)) with s² the area and k = 2 sigma; the AP is the share of thresholds that it reaches."""
    oks = math.exp(-(distance**2) / (2 * AREA * (2 * SIGMA) ** 2))
    found = judged([(heatmaps((20 + distance, 20), (5, 5)), person((20, 20, 2), (0, 0, 0)))])
    assert found["AP"] == pytest.approx((oks >= THRESHOLDS).mean())
    assert (oks >= THRESHOLDS).mean() > 0 or distance > 3


def test_oks_is_the_mean_over_labelled_joints():
    oks = (1 + math.exp(-16 / (2 * AREA * (2 * SIGMA) ** 2))) / 2
    found = judged([(heatmaps((20, 20), (30, 34)), person((20, 20, 2), (30, 30, 1)))])
    assert found["AP"] == pytest.approx((oks >= THRESHOLDS).mean())
    assert 0.5 < oks < 0.9


@pytest.mark.parametrize(("distance", "share"), [(7, 1.0), (8, 1.0), (9, 0.5)])
def test_pck_counts_joints_within_a_fifth_of_the_longer_side(distance, share):
    """40 pixels: 8."""
    found = judged([(heatmaps((20 + distance, 20), (30, 30)), person((20, 20, 2), (30, 30, 1)))])
    assert found["PCK@0.2"] == share


def test_a_heatmap_without_a_peak_finds_nothing():
    maps = heatmaps((20, 20), (30, 30))
    maps[0][0, 1] = 0
    assert judged([(maps, person((20, 20, 2), (0, 0, 2)))])["PCK@0.2"] == 0.5


def test_joints_in_another_order():
    found = judged([(heatmaps((30, 30), (20, 20)), person((20, 20, 2), (30, 30, 2)))], order=(1, 0))
    assert found == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1, "PCK@0.2": 1})


def test_without_sigmas_there_is_no_ap():
    assert judged([(heatmaps((20, 20), (30, 30)), person((20, 20, 2), (30, 30, 2)))], sigmas=None) == {"PCK@0.2": 1.0}


def test_two_people_of_a_picture_and_one_of_the_next():
    """Two of three found, the wrong one surest: precision 2/3 up to a recall of 2/3, which is 67 of 101."""
    right = (heatmaps((20, 20), (30, 30), height=0.5), person((20, 20, 2), (30, 30, 2)))
    other = (heatmaps((50, 50), (55, 55), height=0.4), person((50, 50, 2), (55, 55, 2)))
    wrong = (heatmaps((60, 5), (60, 9), height=0.9), person((20, 20, 2), (30, 30, 2)))
    found = judged([right, other], [wrong])
    assert found["AP"] == pytest.approx(67 / 101 * 2 / 3)
    assert found["PCK@0.2"] == pytest.approx(4 / 6)


def test_a_person_seen_elsewhere_is_judged_there():
    """The region's corner is at (100, 50), and each pixel of the heatmap is two of the picture."""
    region = Region((164.0, 114.0), (128.0, 128.0))
    annotation = person((140, 90, 2), (160, 110, 2), box=(120.0, 70.0, 60.0, 60.0))
    metric = JointPrecision(1, 1, (0, 1), (SIGMA, SIGMA))
    metric.add(0, heatmaps((20, 20), (30, 30)), Person(region, annotation, [annotation]))
    assert metric.values() == pytest.approx([1, 1, 1, 1])


def test_weights_count_pictures():
    right = [(heatmaps((20, 20), (30, 30)), person((20, 20, 2), (30, 30, 2)))]
    wrong = [(heatmaps((60, 5), (60, 9), height=0.1), person((20, 20, 2), (30, 30, 2)))]
    metric = JointPrecision(2, 1, (0, 1), (SIGMA, SIGMA))
    for image, ((outputs, annotation),) in enumerate((right, wrong)):
        metric.add(image, outputs, Person(WHOLE, annotation, [annotation]))
    assert metric.values(np.array([3, 1]))[-1] == 0.75
    assert metric.values(np.array([4, 0])) == pytest.approx([1, 1, 1, 1])
