"""The options of `edge-export`, one a row: type, names, what stands for the value, panel and text in --help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from exporter.lower import NAMES
from exporter.progress import Stage

_MODEL, _PRECISION, _OUTPUT = "Model", "Format and precision", "Output"
_CALIBRATION, _EVALUATION, _DEVICES = "Calibration", "Evaluation", "Devices"
_FLAG = " "
"""Typer would print `<bool>` beside a flag."""


def _option(panel: str, metavar: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, help=text, show_default=False, **more)


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of a model or recipe, recipe file (.yaml), or module:function.")
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that edge-export wrote.")]
Diagnosed = Annotated[
    str,
    typer.Argument(metavar="MODEL|BUNDLE", help="As for export, or a folder that edge-export --int8 wrote."),
]
Layers = Annotated[int | None, _option(_OUTPUT, "N", "Show the N layers of most effect (default: 10).", min=1)]
DiagnosisOut = Annotated[
    Path | None, _option(_OUTPUT, "FOLDER", "Write diagnosis.html, .svg and .json there.", "--out")
]
Old = Annotated[Path, typer.Argument(metavar="OLD", help="A bundle, or what verify --json printed of one.")]
New = Annotated[Path, typer.Argument(metavar="NEW", help="Another of the same model.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite, .onnx or .mlpackage, anyone's, or a bundle.")]

Emulated = Annotated[
    Literal["arm64"], typer.Argument(metavar="arm64", help="ARM cores: cortex-a53, cortex-a76, and one with i8mm.")
]

Weights = Annotated[
    str | None,
    _option(
        _MODEL, "NAME|FILE", "Published weights (coco, imagenet), a file, demo (default where listed), else random."
    ),
]
Size = Annotated[str | None, _option(_MODEL, "HxW", "Input height and width, such as 512x512.")]
NumClasses = Annotated[int | None, _option(_MODEL, "N", "Classes of the model's head.", min=1)]

Postprocess = Annotated[
    Literal["raw", "decoded", "nms"] | None,
    _option(_MODEL, "WHAT", "What a detector gives: raw heads (default), decoded boxes and scores, or nms."),
]

Target = Annotated[
    list[str] | None,
    _option(_PRECISION, "FORMAT", f"File format: {', '.join(NAMES)} (default: {NAMES[0]}); again for another; all."),
]
MinOs = Annotated[
    int | None, _option(_PRECISION, "N", "Oldest iOS that is to run a Core ML file: 15 to 18 (default: derived).")
]
Int8 = Annotated[bool, _option(_PRECISION, _FLAG, "Full integer: weights and activations in int8.", "--int8")]
WeightsInt8 = Annotated[
    bool, _option(_PRECISION, _FLAG, "Weights in int8, arithmetic in float (Core ML).", "--weights-int8")
]
Fp16 = Annotated[
    bool, _option(_PRECISION, _FLAG, "Weights in float16; arithmetic in float32, in Core ML in float16.", "--fp16")
]
Fp32 = Annotated[bool, _option(_PRECISION, _FLAG, "All in float32. Default, but float16 in Core ML.", "--fp32")]
Io = Annotated[
    Literal["float", "int8", "uint8"] | None,
    _option(_PRECISION, "TYPE", "Inputs and outputs of an --int8 model: float (default), int8 or uint8."),
]
OnnxReduceRange = Annotated[
    bool,
    _option(
        _PRECISION,
        _FLAG,
        "int8 weights of 7 bits, in all files of the run: for onnxruntime on x86 without VNNI, which saturates.",
        "--onnx-reduce-range",
    ),
]

MaxDrop = Annotated[
    float | None,
    _option(
        _EVALUATION,
        "X",
        "Repair int8 until the task metric is at most X below PyTorch's: .01 is one point (labelled pictures: "
        "--eval, or the demo weights' own).",
        "--max-drop",
    ),
]

Calib = Annotated[
    str | None,
    _option(
        _CALIBRATION,
        "SOURCE",
        "Folder of pictures, .npz or .npy with inputs, or COCO .json. Without it: the project's sample pictures.",
    ),
]
Images = Annotated[int | None, _option(_CALIBRATION, "N", "Calibrate on at most N samples (default: 32).", min=1)]
Ranges = Annotated[
    Literal["minmax", "percentile", "mse", "entropy"] | None,
    _option(_CALIBRATION, "METHOD", "Ranges from what was observed: minmax, percentile, mse (default) or entropy."),
]
KeepFloat = Annotated[
    list[str] | None,
    _option(
        _PRECISION,
        "GLOB",
        "Keep the modules of these paths in float, such as 'backbone.blocks.3.*'; again for others.",
        "--keep-float",
    ),
]
Plan = Annotated[Path | None, _option(_CALIBRATION, "FILE", "Reuse a plan.json instead of calibrating.")]

Eval = Annotated[
    str | None,
    _option(
        _EVALUATION,
        "SOURCE",
        "Labelled pictures to measure the task on: a folder a class, labels.csv, COCO .json, or images/ and masks/. "
        "Without it: with demo weights their sample.",
        "--eval",
    ),
]
EvalImages = Annotated[
    int | None, _option(_EVALUATION, "N", "Evaluate on at most N pictures (default: all).", "--eval-images", min=1)
]

On = Annotated[
    list[str] | None,
    _option(_DEVICES, "DEVICE", "Run there: local, arm64[:CORE], ssh://USER@HOST or adb[:SERIAL]; again for another."),
]
Float = Annotated[
    Path | None, _option(_DEVICES, "BUNDLE", "Float export of the same model: int8 against float, there.", "--float")
]
DeviceImages = Annotated[
    str | None,
    _option(_DEVICES, "N|FOLDER", "Of the project's pictures N (default: 4), or those of a folder.", "--images"),
]
Baseline = Annotated[
    Path | None, _option(_DEVICES, "FILE", "What verify --json printed before: instructions must not have risen.")
]
Junit = Annotated[Path | None, _option(_OUTPUT, "FILE", "Write JUnit XML: a test case for every gate and device.")]
Summary = Annotated[Path | None, _option(_OUTPUT, "FILE", "Append Markdown, as for $GITHUB_STEP_SUMMARY.")]
Out = Annotated[Path | None, _option(_OUTPUT, "FOLDER", "Where the bundle goes (default: out/NAME-PRECISION).")]
StopAfter = Annotated[
    Stage,
    _option(
        _OUTPUT, "STAGE", "End after build; capture, simplify or quantize, which print the graph; lower or verify."
    ),
]
Quiet = Annotated[bool, _option(_OUTPUT, _FLAG, "No progress and no report: only errors.", "--quiet", "-q")]
Json = Annotated[bool, _option(_OUTPUT, _FLAG, "JSON on standard output; progress goes to standard error.", "--json")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"edge-export {version('edge-export')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", metavar=_FLAG, callback=_print_version, help="Print the version.")]
