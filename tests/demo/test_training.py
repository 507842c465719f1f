"""The training of demo weights: truths become what the losses compare with, and a run can be interrupted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.demo import lesson, train
from benchmarks.demo.classification import Classification
from benchmarks.demo.detection import Detection, assign, encode
from benchmarks.demo.pose import Pose, gaussians
from exporter.build import build_model
from exporter.build.detection import centre_size
from exporter.build.pose import decode as decode_joints
from exporter.ir.detection import decode


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(lesson, "VALIDATED", 4)
    monkeypatch.setattr(train, "REFIT", 16)
    monkeypatch.setattr(train, "REPORT", 2)


def test_box_codes_are_what_the_exporter_decodes():
    anchors = torch.tensor([[0.0, 0.0, 32.0, 32.0], [8.0, 16.0, 40.0, 80.0]])
    boxes = torch.tensor([[3.0, 5.0, 20.0, 44.0], [10.0, 12.0, 50.0, 60.0]])
    torch.testing.assert_close(decode(encode(boxes, anchors), centre_size(anchors)), boxes)


def test_every_box_has_an_anchor_and_near_ones_are_told():
    anchors = build_model("efficientdet_d0", (128, 128), 8).anchors()
    boxes = torch.tensor([[10.0, 10.0, 22.0, 20.0], [40.0, 30.0, 72.0, 62.0]])
    number, near = assign(anchors, boxes)
    assert set(number.tolist()) == {-1, 0, 1}
    assert (number == 0).sum() == 1, "a small one has only the anchor that fits it best"
    assert (near & (number == -1)).any()
    assert not assign(anchors, boxes[:0])[1].any()


def test_heatmaps_are_what_the_exporter_reads():
    joints = torch.tensor([[[0.3, 0.4], [0.72, 0.11]]])
    found, heights = decode_joints(gaussians(joints, 32, 24))
    assert (found - joints * torch.tensor([24.0, 32.0])).abs().max() < 0.5
    assert heights.min() > 0.7


@pytest.mark.parametrize("seed", range(6))
def test_boxes_follow_their_things_when_a_picture_is_turned(seed):
    made = lesson.scene("detection", "train", seed, (128, 128))
    task = Detection(build_model("efficientdet_d0", (128, 128), 8), (128, 128), 1)
    pixels, (boxes, _) = task.varied(made, np.random.default_rng(seed))
    before = [
        made.pixels[round(y) : round(y + h), round(x) : round(x + w)].astype(float) for (x, y, w, h), _ in made.truth
    ]
    after = [pixels[round(y0) : round(y1), round(x0) : round(x1)].astype(float) for y0, x0, y1, x1 in boxes.tolist()]
    for was, now in zip(before, after, strict=True):
        assert sorted(was.shape[:2]) == sorted(now.shape[:2])
        assert now.mean() == pytest.approx(was.mean())


def test_a_mirrored_figure_keeps_its_left_right_in_the_picture():
    task = Pose(nn.Identity(), (128, 96), 12)
    apart = []
    for seed in range(20):
        _, (points, _) = task.varied(task.scenes[seed % 12], np.random.default_rng(seed))
        apart += [points[5, 0] - points[6, 0], points[11, 0] - points[12, 0]]
    assert np.mean([float(x) > 0 for x in apart]) > 0.9


class Small(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16)
        )


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    stage = train.Stage((96, 96), 12, 8, 4, 1e-2, 0.5)
    task = Classification(Small(), stage.size, stage.pictures)
    whole = train.fit(train.ready(Small()), task, stage, 0, tmp_path / "whole.pt")

    class Interrupted(Classification):
        def loss(self, outputs, truths):
            if len(seen) == 5:
                raise KeyboardInterrupt
            seen.append(1)
            return super().loss(outputs, truths)

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train.fit(train.ready(Small()), Interrupted(Small(), stage.size, stage.pictures), stage, 0, tmp_path / "two.pt")
    assert train.averaged(tmp_path / "two.pt", stage.steps) is None
    again = train.fit(train.ready(Small()), task, stage, 0, tmp_path / "two.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert train.averaged(tmp_path / "two.pt", stage.steps) is not None


def test_it_learns(tmp_path):
    stage = train.Stage((96, 96), 16, 40, 16, 3e-2, 1.0)
    task = Classification(Small(), stage.size, stage.pictures)
    pictures, truths = task.batch(np.random.default_rng(0), 32)
    before = task.loss(Small().eval()(pictures), truths)
    after = task.loss(train.fit(train.ready(Small()), task, stage, 0, tmp_path / "a.pt")(pictures), truths)
    assert after < before - 0.3


def test_frozen_statistics_stay(tmp_path):
    model = train.ready(Small())
    train.training(model, frozen=True)
    before = model[1].running_mean.clone()
    model(torch.randn(4, 3, 96, 96))
    assert torch.equal(before, model[1].running_mean)
    train.training(model, frozen=False)
    model(torch.randn(4, 3, 96, 96))
    assert not torch.equal(before, model[1].running_mean)


def test_what_is_saved_is_float16_without_counters(tmp_path):
    from safetensors.torch import load_file

    model = Small()
    train.save(model, tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    model[1].running_var[0] = 1e5
    train.save(model, tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors")["1.running_var"][0] == 1e5
    assert state.keys() == {name for name in Small().state_dict() if not name.endswith("num_batches_tracked")}
