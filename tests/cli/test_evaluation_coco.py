"""`--eval` with COCO files through the real command: a detector and a pose model whose figures are known beforehand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import edge_export
from PIL import Image
from refusals import names, refused

MODELS = """
import torch
from torch import nn

class Spots(nn.Module):
    '''A detector: a cell of 8 x 8 pixels that is red, green or blue is an object of 16 x 16 pixels around it.'''

    num_classes, output_names = 3, ("class", "box")

    def __init__(self):
        super().__init__()
        self.mean = nn.Conv2d(3, 3, 8, 8)
        self.box = nn.Conv2d(3, 4, 8, 8)
        with torch.no_grad():
            self.mean.weight.copy_(torch.eye(3)[..., None, None].expand(3, 3, 8, 8) * 20 / 64)
            self.mean.bias.fill_(-10.0)
            self.box.weight.zero_()
            self.box.bias.zero_()

    def priors(self):
        grid = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"), -1).reshape(-1, 2)
        return torch.cat([(grid + 0.5) / 6, torch.full((36, 2), 2 / 6)], 1)

    def predictions(self, heads):
        logits, codes = (head.permute(0, 2, 3, 1).flatten(1, 2) for head in heads)
        return codes, logits.sigmoid()

    def forward(self, x):
        return self.mean(x), self.box(x)

def spots():
    return Spots()

class Peaks(nn.Module):
    '''A pose model: the joints are the reddest and the greenest place, in heatmaps of a fourth of the size.'''

    def __init__(self):
        super().__init__()
        self.mean = nn.Conv2d(3, 2, 4, 4)
        with torch.no_grad():
            self.mean.weight.copy_(torch.eye(3)[:2, :, None, None].expand(2, 3, 4, 4) / 16)
            self.mean.bias.zero_()

    def forward(self, x):
        return self.mean(x)

def peaks():
    return Peaks()
"""
RECIPE = """
model: models:{model}
name: {model}
preprocess: {{size: {size}, resize: {resize}, mean: [0, 0, 0], std: [1, 1, 1]}}
labels: {model}.txt
"""
WIDTH, HEIGHT = 96, 48
SCALES = {"letterbox": (0.5, 0.5), "stretch": (0.5, 1.0)}
"""How large a picture of 96 x 48 comes to be in the input of 48 x 48, along x and y."""


def spotted(folder, resize, shift=0.0):
    """Six pictures, each with two spots of 16 x 16 pixels of the input, the middle in colour, annotated where they lie
    in the picture, `shift` of their side too far right.
    """
    scale_x, scale_y = SCALES[resize]
    folder.mkdir()
    images, annotations = [], []
    for number in range(6):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for at, column in enumerate(((1, 3), (1, 4), (2, 4))[number % 3]):
            colour = (number + at) % 3
            left, top = column * 8 / scale_x, 8 / scale_y  # the coloured cell, in the picture
            pixels[round(top) : round(top + 8 / scale_y), round(left) : round(left + 8 / scale_x), colour] = 255
            box = [left - 4 / scale_x + shift * 16 / scale_x, top - 4 / scale_y, 16 / scale_x, 16 / scale_y]
            annotations.append(
                {"image_id": number, "category_id": 10 * colour + 5, "bbox": box, "id": len(annotations)}
            )
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
    categories = [{"id": 10 * i + 5, "name": name} for i, name in enumerate(("Red", "green", "blue"))]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(content))
    return content


@pytest.fixture
def models(desk):
    """models.py, and a recipe of the detector for each way of resizing and one of the pose model."""
    (desk / "models.py").write_text(MODELS)
    (desk / "spots.txt").write_text("red\ngreen\nblue\n")
    (desk / "peaks.txt").write_text("red_dot\ngreen_dot\n")
    for resize in SCALES:
        (desk / f"{resize}.yaml").write_text(RECIPE.format(model="spots", size=[48, 48], resize=resize))
    (desk / "peaks.yaml").write_text(RECIPE.format(model="peaks", size=[64, 48], resize="crop"))
    return desk


def scores(done):
    """(target, file) -> metric -> value."""
    found = {}
    for row in done.json["verification"]["evaluation"]["scores"]:
        found.setdefault((row["target"], row["file"]), {})[row["metric"]] = row["value"]
    return found


@pytest.mark.parametrize(
    ("resize", "postprocess"), [("letterbox", "raw"), ("stretch", "decoded"), ("letterbox", "nms")]
)
def test_a_detector_that_finds_everything(models, resize, postprocess):
    spotted(models / "set", resize)
    options = ["--postprocess", postprocess, "--target", "all", "--calib", "set", "--eval", "set/coco.json", "--json"]
    done = edge_export(f"{resize}.yaml", "--int8", *options, cwd=models)
    assert done.code == 0, done.err
    files = [(target, file) for target in ("tflite", "onnx", "coreml") for file in ("float32", "int8")]
    perfect = pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})
    assert scores(done) == dict.fromkeys([("", "PyTorch"), *files], perfect)
    assert done.json["verification"]["evaluation"]["labels"] == "12 boxes of 3 classes"


@pytest.mark.parametrize("resize", SCALES)
def test_boxes_a_fifth_aside_have_an_iou_of_two_thirds(models, resize):
    """Reached at 0.50, 0.55, 0.60 and 0.65."""
    spotted(models / "set", resize, shift=0.2)
    done = edge_export(f"{resize}.yaml", "--eval", "set/coco.json", "--json", cwd=models)
    assert done.code == 0, done.err
    near = pytest.approx({"AP": 0.4, "AP50": 1, "AP75": 0})
    assert scores(done) == {("", "PyTorch"): near, ("tflite", "float32"): near}
    evaluation = done.json["verification"]["evaluation"]
    assert evaluation["scores"][0]["interval"] == pytest.approx([0.4, 0.4])
    assert "bootstrap over pictures, 500 draws, seed 0" in evaluation["protocol"].replace(", of drops too", "")


def people(folder, **category):
    """Four pictures with two people each, a red and a green dot on every one; the last green dot is annotated wrong."""
    folder.mkdir()
    images, annotations = [], []
    for number in range(4):
        pixels = np.zeros((200, 300, 3), np.uint8)
        for left, top in ((30, 40), (170, 60 + 5 * number)):
            red, green = (left + 30, top + 24), (left + 52, top + 70)
            for colour, (x, y) in enumerate((red, green)):
                pixels[y - 5 : y + 5, x - 5 : x + 5, colour] = 255
            if (number, left) == (3, 170):
                green = (green[0] - 40, green[1])
            keypoints = [*red, 2, *green, 1]
            box, area = [left, top, 72, 96], 72 * 96
            entry = {"bbox": box, "area": area, "keypoints": keypoints, "image_id": number, "category_id": 1}
            annotations.append({**entry, "id": len(annotations)})
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
    person = {"id": 1, "name": "person", "keypoints": ["red dot", "green dot"], **category}
    content = {"images": images, "categories": [person], "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(content))
    return content


def test_a_pose_model_that_finds_every_joint_but_one(models):
    people(models / "set", sigmas=[0.05, 0.05])
    options = ["--int8", "--target", "all", "--calib", "set", "--eval", "set/coco.json", "--json"]
    done = edge_export("peaks.yaml", *options, cwd=models)
    assert done.code == 0, done.err
    found = scores(done)
    assert len(found) == 7
    for figures in found.values():
        assert figures["PCK@0.2"] == 15 / 16
        assert figures["AP50"] == figures["AP75"] == pytest.approx(88 / 101)  # 7 of 8 people: recalls up to 0.875
    assert done.json["verification"]["evaluation"]["task"] == "keypoints"


def test_joints_without_sigmas_have_pck_alone(models):
    people(models / "set")
    done = edge_export("peaks.yaml", "--eval", "set/coco.json", "--json", cwd=models)
    assert done.code == 0, done.err
    assert scores(done)["tflite", "float32"] == {"PCK@0.2": 15 / 16}
    assert "No AP: the category has no `sigmas`" in done.json["verification"]["evaluation"]["protocol"]


def without_annotations(content, folder):
    del content["annotations"]


def without_categories(content, folder):
    content["categories"] = []


def other_category(content, folder):
    content["categories"][0]["name"] = "rde"


def loose_box(content, folder):
    content["annotations"][3]["bbox"] = [1, 2, 3]
    content["annotations"][5]["image_id"] = 99


def resized(content, folder):
    Image.new("RGB", (48, 24)).save(folder / "2.png")


def cut(content, folder):
    path = folder / "4.png"
    path.write_bytes(path.read_bytes()[:-30])


def absent(content, folder):
    (folder / "1.png").unlink()


BAD = {
    "no annotations": (without_annotations, ["set/coco.json has no annotations", "not image_info_*.json"]),
    "no categories": (without_categories, ["set/coco.json has no categories"]),
    "unknown category": (other_category, ["1 of 3 classes of set/coco.json are not the model's", "did you mean red?"]),
    "bad annotations": (
        loose_box,
        ["2 of 12 annotations", "annotations[3]  has no box x, y, width, height", "annotations[5]  is of image 99"],
    ),
    "another size": (resized, ["1 of 6 pictures have another size", "2.png  is 48 x 24, annotated as 96 x 48"]),
    "truncated": (cut, ["1 of 6 pictures in set/coco.json cannot be read", "4.png"]),
    "absent": (absent, ["1 of 6 pictures of set/coco.json are missing"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_coco_file_that_cannot_be_used_is_refused(models, case):
    spoil, said = BAD[case]
    content = spotted(models / "set", "stretch")
    spoil(content, models / "set")
    (models / "set" / "coco.json").write_text(json.dumps(content))
    before = names(models)
    done = edge_export("stretch.yaml", "--eval", "set/coco.json", "--quiet", cwd=models)
    refused(done, 3, *said)
    assert names(models) == before


def test_keypoints_of_another_model_are_refused(models):
    content = people(models / "set")
    content["categories"][0]["keypoints"] = ["red dot", "blue dot"]
    (models / "set" / "coco.json").write_text(json.dumps(content))
    done = edge_export("peaks.yaml", "--eval", "set/coco.json", "--quiet", cwd=models)
    refused(done, 3, "1 of 2 keypoints of set/coco.json are not the model's", "blue dot")


def test_boxes_do_not_judge_a_pose_model(models):
    spotted(models / "set", "stretch")
    done = edge_export("peaks.yaml", "--eval", "set/coco.json", "--quiet", cwd=models)
    refused(done, 3, "set/coco.json has 0 categories with keypoints, not one")


def test_boxes_do_not_judge_a_network_without_anchors(models):
    spotted(models / "set", "stretch")
    done = edge_export(
        "fasternet_t0", "--weights", "random", "--size", "64x64", "--eval", "set/coco.json", "--quiet", cwd=models
    )
    refused(done, 2, "a COCO .json judges a detector or a pose model", "[1, 1000]")
