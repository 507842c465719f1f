"""Boxes, crops and the flip test of pose estimation. Decoding itself is held against mmpose by the golden tests."""

import numpy as np
import pytest
import torch
from PIL import Image

from exporter.build.pose import COCO_PAIRS, MPII_PAIRS, Region, average_with_flipped, cut, decode, region, to_picture
from exporter.recipe import recipes_dir

SIZE = (256, 192)


@pytest.mark.parametrize(
    ("box", "size"),
    [((10, 20, 30, 40), (37.5, 50)), ((10, 20, 60, 40), (75, 100)), ((10, 20, 30, 80), (75, 100))],
    ids=["of the aspect", "too wide", "too tall"],
)
def test_a_region_has_the_inputs_aspect_and_a_margin_around_its_box(box, size):
    found = region(box, SIZE)
    assert found.size == pytest.approx(size)
    assert found.centre == (box[0] + box[2] / 2, box[1] + box[3] / 2)
    assert found.size[0] / found.size[1] == pytest.approx(SIZE[1] / SIZE[0])


def test_a_joint_comes_back_to_where_it_is_in_the_picture():
    picture = np.zeros((400, 500, 3), np.uint8)
    picture[146:154, 206:214] = 255  # around (210, 150)
    where = region((180, 90, 90, 160), SIZE)
    crop = np.asarray(cut(Image.fromarray(picture), where, SIZE), np.float32)[..., 0]
    assert crop.shape == SIZE
    heatmap = torch.from_numpy(crop).reshape(64, 4, 48, 4).mean((1, 3))
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    centre = torch.stack([(heatmap * columns).sum(), (heatmap * rows).sum()]) / heatmap.sum() + 0.5
    assert to_picture(centre, where, (64, 48)).tolist() == pytest.approx([210, 150], abs=0.5)


def test_a_region_beyond_the_picture_shows_black():
    crop = np.asarray(cut(Image.new("RGB", (100, 100), "white"), Region((0, 0), (150, 200)), SIZE))
    assert crop[:100, :80].max() == 0
    assert crop[140:, 110:].min() == 255


def test_decoding_takes_any_leading_dimensions():
    heatmaps = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    joints, scores = decode(heatmaps)
    assert (joints.shape, scores.shape) == ((2, 3, 2), (2, 3))
    assert torch.equal(joints[1, 2], decode(heatmaps[1, 2])[0])


def test_the_flip_test_mirrors_swaps_and_shifts_by_a_column():
    heatmaps, of_mirror = torch.zeros(3, 1, 4), torch.zeros(3, 1, 4)
    of_mirror[:, 0] = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    averaged = average_with_flipped(heatmaps, of_mirror, [(1, 2)])
    expected = torch.tensor([[4.0, 4, 3, 2], [12, 12, 11, 10], [8, 8, 7, 6]]) / 2
    assert torch.equal(averaged[:, 0], expected)


@pytest.mark.parametrize(("labels", "pairs"), [("coco_keypoints.txt", COCO_PAIRS), ("mpii_keypoints.txt", MPII_PAIRS)])
def test_pairs_are_left_and_right_of_the_labels(labels, pairs):
    joints = (recipes_dir() / "labels" / labels).read_text().split()
    swapped = {joints[a]: joints[b] for a, b in pairs} | {joints[b]: joints[a] for a, b in pairs}
    sided = [joint for joint in joints if joint.startswith(("left_", "right_"))]
    assert {j: j.replace("left", "?").replace("right", "left").replace("?", "right") for j in sided} == swapped
