"""Our models against the official implementations' recorded outputs (shared/golden, tolerance 5e-5)."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.build import build_model, load_weights, pose
from exporter.build.detection import centre_size, flatten_levels, postprocess
from exporter.ir.detection import decode

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
TOLERANCE = 5e-5
CLASSIFIERS = ["fasternet_t0", "fasternet_t1", "fasternet_s", "cspresnet50", "cspresnext50", "cspdarknet53"]
POSE = ["litehrnet_18", "litehrnet_30", "naive_litehrnet_18", "wider_naive_litehrnet_18"]
DETECTORS = ["efficientdet_d0", "efficientdet_d1", "tf_efficientdet_d0", "tf_efficientdet_d1", "tf_efficientdet_lite0"]

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden files lie beside the checkout, in shared/")


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("check_golden", GOLDEN / "check_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tapped(name, output):
    """A module's output, or each of the list it returns, under the golden files' names."""
    return {f"{name}[{i}]": t for i, t in enumerate(output)} if isinstance(output, list) else {name: output}


def everything(model, x):
    """Outputs, inner feature maps and the whole post-process, under the golden files' names."""
    got, hooks = {}, []

    def tap(name):
        def record(module, inputs, output):
            got.update(tapped(name, output))

        return record

    for name in ("backbone", *(n for n, _ in model.named_modules() if n.count(".") == 2 and n.startswith("fpn."))):
        hooks.append(model.get_submodule(name).register_forward_hook(tap(name)))
    classes, boxes = model(x)
    for hook in hooks:
        hook.remove()
    got.update({f"class[{i}]": t for i, t in enumerate(classes)} | {f"box[{i}]": t for i, t in enumerate(boxes)})
    got["anchors"] = model.anchors()
    got["decoded_yxyx"] = decode(flatten_levels(boxes, 4), centre_size(model.anchors()))[0]
    got["detections"] = postprocess(classes, boxes, model.anchors(), model.image_size)[0]
    return got


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_agrees_with_effdet_at_every_tap(golden, name):
    meta, stored = golden.read(name)
    model = build_model(name, image_size=tuple(meta["input_shape"][2:]))
    load_weights(model, golden.official_state_dict(name))
    with torch.no_grad():
        got = everything(model, torch.from_numpy(golden.F.make_input(meta["input_shape"])))

    wanted = {"tap": meta["taps"], "out": meta["outputs"], "extra": meta["extra"]}
    assert wanted["tap"]
    assert set(wanted["extra"]) == {"anchors", "decoded_yxyx", "detections"}
    for group, tensors in wanted.items():
        for tensor_name, facts in tensors.items():
            value, want = got[tensor_name], stored[f"{group}/{tensor_name}"]
            assert list(value.shape) == facts["shape"], tensor_name
            if tensor_name == "detections":
                # The order of near-equal scores is not fixed: compare as sets, both ways.
                gaps = torch.cdist(value.double(), torch.from_numpy(want).double(), p=float("inf"))
                error = float(torch.maximum(gaps.min(0).values, gaps.min(1).values).max()) / abs(want).max()
            else:
                error = golden.rel_err(golden.sample_like(value, want.size).reshape(want.shape), want)
            assert error <= TOLERANCE, tensor_name


@pytest.mark.parametrize("name", CLASSIFIERS + POSE)
def test_classifier_or_pose_estimator_agrees_with_the_reference_at_every_tap(golden, name):
    """A tap is the output of the module of that name; `[i]` counts in the list that it returns."""
    meta, stored = golden.read(name)
    model = build_model(name, image_size=tuple(meta["input_shape"][2:]))
    load_weights(model, golden.official_state_dict(name))
    got = {}
    for tap in {name.partition("[")[0] for name in meta["taps"]}:
        model.get_submodule(tap).register_forward_hook(lambda module, inputs, y, tap=tap: got.update(tapped(tap, y)))
    with torch.no_grad():
        got["output"] = model(torch.from_numpy(golden.F.make_input(meta["input_shape"])))

    assert meta["taps"]
    assert got.keys() == meta["taps"].keys() | meta["outputs"].keys()
    for group, tensors in {"tap": meta["taps"], "out": meta["outputs"]}.items():
        for tensor_name, facts in tensors.items():
            value, want = got[tensor_name], stored[f"{group}/{tensor_name}"]
            assert list(value.shape) == facts["shape"], tensor_name
            assert golden.rel_err(golden.sample_like(value, want.size), want) <= TOLERANCE, tensor_name


def test_joints_of_heatmaps_equal_mmpose():
    """Eight heatmaps: peaks in corners, at edges, in the inside, a tie, and one without a positive element."""
    stored = {key: torch.from_numpy(values) for key, values in np.load(GOLDEN / "pose_decode.npz").items()}
    joints, scores = pose.decode(stored["heatmaps"])
    assert torch.equal(joints, stored["keypoints_heatmap"])
    assert torch.equal(scores, stored["scores"])
    height, width = stored["heatmaps"].shape[-2:]
    whole_input = pose.Region((2.0 * width, 2.0 * height), (4.0 * width, 4.0 * height))
    assert torch.equal(pose.to_picture(joints, whole_input, (height, width)), stored["keypoints_input"])


@pytest.mark.parametrize("name", CLASSIFIERS + POSE + DETECTORS)
def test_state_dict_names_and_shapes_are_the_official_ones(golden, name):
    meta, _ = golden.read(name)
    with torch.device("meta"):
        state = build_model(name).state_dict()
    # The predictor's shape does not depend on the image size, so the published size will do.
    assert {n: list(t.shape) for n, t in state.items()} == {n: shape for n, shape, _ in meta["state_dict"]}
