"""A detector with decoded outputs and with NMS, from the command line to the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_detector
import torch
from parity import image
from torch import Tensor, nn

import exporter
from exporter.build.postprocess import Detections, float_tail
from exporter.errors import UsageError
from exporter.pipeline import Pipeline
from exporter.recipe import load_recipe, make_recipe
from exporter.report.inspect import inspect_file
from exporter.verify.bundle import verify_bundle
from exporter.verify.runtimes.litert import LiteRT

DETECTOR = "small_detector:make"
SMALL = {"preprocess": {"size": (small_detector.SIZE,) * 2}, "calibration": {"limit": 4}}


def run(out: Path, model: str = DETECTOR, stop_after: str = "report", **changes: object) -> Pipeline:
    pipeline = Pipeline(load_recipe(model, **{**SMALL, **changes}))
    pipeline.run(out, stop_after)
    return pipeline


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("postprocess", ["raw", "decoded", "nms"])
def test_every_precision_and_every_ending_passes_its_gates(postprocess, precision, tmp_path):
    done = run(tmp_path / "out", postprocess=postprocess, precision=precision)
    assert done.verification.passed, done.verification.gates
    assert verify_bundle(tmp_path / "out").passed
    wanted = {"raw": ["class", "box"], "decoded": ["boxes", "scores"], "nms": ["boxes", "classes", "scores", "count"]}
    assert [t.name for t in inspect_file(tmp_path / "out").outputs] == wanted[postprocess]
    assert [v.name for v in done.graph.inputs] == ["image"]
    assert bool(inspect_file(tmp_path / "out").tail_ops) == (postprocess != "raw" and precision == "int8")


@pytest.mark.parametrize("target", ["onnx", "coreml"])
@pytest.mark.parametrize("precision", ["float", "int8"])
@pytest.mark.parametrize("postprocess", ["raw", "decoded", "nms"])
def test_every_ending_passes_its_gates_in_other_formats(target, postprocess, precision, tmp_path):
    done = run(tmp_path / "out", targets=target, postprocess=postprocess, precision=precision)
    assert done.verification.passed, done.verification.gates
    assert verify_bundle(tmp_path / "out").passed
    found = done.verification.targets[0].detections
    assert all(row.matched == row.expected > 0 for row in found if row.reference == "interpreter")
    assert {row.reference for row in found} >= (
        {"interpreter"} if (postprocess, precision) == ("nms", "int8") else set()
    )


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_codes_go_in_and_floats_come_out(io, tmp_path):
    done = run(tmp_path / "out", postprocess="nms", precision="int8", io=io)
    runtime = LiteRT(done.folder.parent / "out" / "small_detector.make.tflite")
    assert [t.dtype for t in runtime.inputs] == [io]
    assert {t.dtype for t in runtime.outputs} == {"float32"}
    assert done.result.io == f"{io} in, float out"


def test_a_users_own_tail_is_verified_like_a_detectors(tmp_path):
    """Without a wrapper PyTorch's heads are not known: their codes are compared with the interpreter's alone."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = self.conv(x)
            return {"large": float_tail(y).exp(), "plain": y.relu()}

    torch.manual_seed(0)
    calib = tmp_path / "calib.npy"
    np.save(calib, image(8, 3, 16, 16).numpy())
    done = exporter.export(Own(), torch.zeros(1, 3, 16, 16), int8=True, calib=calib, out=tmp_path / "out")
    found = done.report.verification
    assert found is not None
    assert found.passed
    assert [row.output for row in found.targets[0].tail_parity] == ["large"]
    assert found.targets[0].tail_parity[0].pooled is None or found.targets[0].tail_parity[0].pooled > 110
    codes = {row.output: (row.equal, row.max_lsb) for row in found.targets[0].integer_parity}
    assert len(codes) == 2
    assert set(codes.values()) == {(1.0, 0)}
    assert found.targets[0].files[0].tail_ops == 1


def test_the_api_takes_a_detector_and_its_post_processing(tmp_path):
    done = exporter.export(
        small_detector.make(), torch.zeros(1, 3, 48, 48), int8=True, out=tmp_path / "out", postprocess="nms",
        nms={"max_detections": 7},
    )  # fmt: skip
    assert done.report.output_shapes["boxes"] == (1, 7, 4)


def test_the_files_detections_are_those_of_the_wrapped_model(tmp_path):
    settings = {"score_threshold": 0.4, "iou_threshold": 0.3, "max_detections": 20, "per_class": True}
    done = run(tmp_path / "out", postprocess="nms", nms=settings, precision="float32")
    x = image(1, 3, 48, 48)
    boxes, classes, scores, count = Detections(small_detector.make(), **settings)(x)
    given = LiteRT(tmp_path / "out" / done.files["tflite"].name).run([x.permute(0, 2, 3, 1).contiguous().numpy()])
    rows = int(count)
    assert given["count"].tolist() == [rows]
    assert rows > 3
    for name, want in (("boxes", boxes), ("classes", classes), ("scores", scores)):
        np.testing.assert_allclose(given[name][:, :rows], want[:, :rows].numpy(), atol=1e-5)


def test_module_paths_and_plans_do_not_know_of_the_wrapper(tmp_path):
    """So that one plan serves every ending, and messages name the user's own modules."""
    raw = run(tmp_path / "raw", precision="int8")
    nms = Pipeline(load_recipe(DETECTOR, **SMALL, precision="int8", postprocess="nms"), plan=tmp_path / "raw/plan.json")
    nms.run(tmp_path / "nms")
    assert nms.plan == raw.plan
    assert {n.source.module for n in nms.graph.nodes if n.op.name == "conv2d"} == {"stem", "class_head", "box_head"}


def test_golden_rows_beyond_the_number_are_zero_and_detections_are_compared_as_a_set(tmp_path):
    run(tmp_path / "out", postprocess="nms", nms={"score_threshold": 0.5}, precision="int8")
    folder = tmp_path / "out/golden/tflite"
    golden = json.loads((folder / "golden.json").read_text())
    assert golden["detections"]["outputs"] == ["boxes", "classes", "scores", "count"]
    arrays = [np.fromfile(folder / e["file"], np.float32).reshape(e["shape"]) for e in golden["outputs"]]
    rows = int(arrays[3][0])
    assert 3 < rows < 100
    assert all(not array[:, rows:].any() and array[:, :rows].any() for array in arrays[:3])
    assert [row.output for row in verify_bundle(tmp_path / "out").targets[0].golden] == ["detections"]


def test_a_bundle_with_other_golden_detections_fails(tmp_path):
    from exporter import bundle

    run(tmp_path / "out", postprocess="nms", precision="int8")
    scores = tmp_path / "out/golden/tflite/output_2.bin"
    scores.write_bytes((np.fromfile(scores, np.float32) * 0.9).tobytes())
    manifest = {k: v for k, v in bundle.read_manifest(tmp_path / "out").items() if k != "files"}
    bundle.write_manifest(tmp_path / "out", manifest)
    (row,) = verify_bundle(tmp_path / "out").targets[0].golden
    assert not row.passed


@pytest.mark.parametrize("name", ["efficientdet_d0_nms", "tf_efficientdet_lite0_nms"])
def test_the_recipes_for_detector_apis_are_int8_with_nms_and_bear_their_own_name(name):
    recipe = load_recipe(name)
    assert (recipe.title, recipe.precision, recipe.postprocess) == (name, "int8", "nms")
    assert recipe.nms is not None
    assert recipe.labels is not None


# --- refusals ---------------------------------------------------------------------------------------------------------
def test_a_model_that_is_no_detector_is_refused_at_once():
    with pytest.raises(UsageError, match="postprocess: nms is for detectors") as caught:
        Pipeline(load_recipe("fasternet_t0", postprocess="nms")).run(stop_after="build")
    assert "FasterNet has no priors and no predictions" in str(caught.value)


def test_a_detector_whose_parts_do_not_fit_is_told_so(tmp_path):
    with pytest.raises(UsageError, match="does not fit together") as caught:
        run(tmp_path / "out", "small_detector:make_shapeless", "capture", postprocess="decoded")
    assert "scores [1, 36, 2], must be [N, 36, 3]" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nms": {}}, "nms needs postprocess: nms"),
        ({"nms": {"iou_threshold": 0.4}, "postprocess": "decoded"}, "it is decoded"),
        ({"postprocess": "boxes"}, "'raw', 'decoded' or 'nms'"),
        ({"postprocess": "nms", "nms": {"iou_treshold": 0.4}}, "unknown key  did you mean iou_threshold?"),
        ({"postprocess": "nms", "nms": {"iou_threshold": 0}}, "nms.iou_threshold"),
        ({"postprocess": "nms", "nms": {"score_threshold": 1}}, "nms.score_threshold"),
        ({"postprocess": "nms", "nms": {"max_detections": 0}}, "nms.max_detections"),
    ],
)
def test_settings_that_are_wrong_or_unused_are_refused(changes, said):
    with pytest.raises(UsageError) as caught:
        make_recipe({"model": DETECTOR, "preprocess": {"size": (48, 48)}, **changes}, "r.yaml")
    assert said in str(caught.value)


@pytest.mark.slow
def test_efficientdet_lite0_in_int8_with_nms(tmp_path):
    """`edge-export tf_efficientdet_lite0 --int8 --postprocess nms`."""
    done = Pipeline(load_recipe("tf_efficientdet_lite0", precision="int8", postprocess="nms"))
    done.run(tmp_path / "out")
    assert done.verification.passed, done.verification.gates
    shipped = done.verification.targets[0].files[0]
    assert (shipped.integer_share, shipped.float_ops, shipped.transposes) == (1.0, (), 0)
    same = done.verification.targets[0].detections[0]
    assert (same.reference, same.share, same.expected) == ("interpreter", 1.0, 400)
    assert verify_bundle(tmp_path / "out").passed
    assert shipped.ops["DEQUANTIZE"] == 10
