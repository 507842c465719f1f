"""Arguments -> recipe -> pipeline -> exit code; nothing else.

`edge-export MODEL [options]` is the `export` command with its name left out.
"""

from __future__ import annotations

import gc
import json as json_module
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from exporter import options
from exporter.errors import UsageError
from exporter.shell import ModelFirst, console, run

if TYPE_CHECKING:
    from exporter.recipe import Recipe

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""torch's threads sleep while they wait: where they spin, as is their default, they keep each other from running on a
busy machine. They read it when torch is loaded, which only the commands do.
"""

app = typer.Typer(
    cls=ModelFirst,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

DUMPED = ("capture", "simplify", "quantize")
"""Stages after which `--stop-after` prints the graph."""


@app.callback()
def edge_export(version: options.Version = False) -> None:
    """PyTorch vision models to verified INT8 files for phones.

    [bold]edge-export efficientdet_d0 --target tflite --int8[/]

    A model straight after the command is exported: [bold]edge-export export --help[/] shows the options.
    """


@app.command(no_args_is_help=True)
def export(
    model: options.Model,
    weights: options.Weights = None,
    size: options.Size = None,
    num_classes: options.NumClasses = None,
    postprocess: options.Postprocess = None,
    target: options.Target = None,
    min_os: options.MinOs = None,
    int8: options.Int8 = False,
    weights_int8: options.WeightsInt8 = False,
    fp16: options.Fp16 = False,
    fp32: options.Fp32 = False,
    io: options.Io = None,
    onnx_reduce_range: options.OnnxReduceRange = False,
    keep_float: options.KeepFloat = None,
    calib: options.Calib = None,
    images: options.Images = None,
    ranges: options.Ranges = None,
    plan: options.Plan = None,
    eval_: options.Eval = None,
    eval_images: options.EvalImages = None,
    max_drop: options.MaxDrop = None,
    out: options.Out = None,
    stop_after: options.StopAfter = "report",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Export MODEL: build, capture, simplify, quantize, lower, verify, report."""
    from exporter.pipeline import Pipeline
    from exporter.recipe import given, load_recipe
    from exporter.report import print_report, to_json
    from exporter.verify.gates import raise_on_failure

    if json and stop_after != "report":
        raise UsageError(f"--json prints the report, and --stop-after {stop_after} ends before it")
    changes = given(
        targets=tuple(target) if target else None,
        precision=_precision({"int8": int8, "weights-int8": weights_int8, "float16": fp16, "float32": fp32}),
        min_os=min_os,
        weights=weights,
        io=io,
        onnx_reduce_range=onnx_reduce_range or None,
        num_classes=num_classes,
        postprocess=postprocess,
        preprocess=given(size=_size(size)),
        calibration=given(source=calib, limit=images, method=ranges),
        quantize=given(keep_float=tuple(keep_float) if keep_float else None, max_drop=max_drop),
        evaluation=given(source=eval_, limit=eval_images),
    )
    recipe = load_recipe(model, **changes)
    _refuse_ignored(recipe, {"--plan": plan, "--ranges": ranges})
    if plan and max_drop is not None:
        raise UsageError("--plan and --max-drop exclude each other", why="a plan holds finished parameters")
    result_on_stdout = json or stop_after in DUMPED
    shown = None if quiet else console(stderr=result_on_stdout)
    pipeline = Pipeline(recipe, plan=plan, console=shown, command=shlex.join(["edge-export", *sys.argv[1:]]))
    gc.freeze()  # what is loaded stays: every collection would walk through the modules of torch and of each format
    with redirect_stdout(sys.stderr) if result_on_stdout else nullcontext():  # a user's model may print
        folder = pipeline.run(out, stop_after)
    if stop_after in DUMPED:
        sys.stdout.write(pipeline.text())
    if json:
        sys.stdout.write(to_json(pipeline.result))
    elif shown and folder:
        if stop_after == "report":
            print_report(pipeline.result, shown)
        shown.print(f"\n{folder}/", soft_wrap=True, markup=False)
    if stop_after in ("verify", "report"):
        raise_on_failure(pipeline.verification.gates)


@app.command(no_args_is_help=True)
def diagnose(
    model: options.Diagnosed,
    weights: options.Weights = None,
    size: options.Size = None,
    num_classes: options.NumClasses = None,
    postprocess: options.Postprocess = None,
    io: options.Io = None,
    keep_float: options.KeepFloat = None,
    calib: options.Calib = None,
    images: options.Images = None,
    ranges: options.Ranges = None,
    plan: options.Plan = None,
    layers: options.Layers = None,
    out: options.DiagnosisOut = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Show where MODEL, or a BUNDLE, loses accuracy in int8: layers ranked, causes, what keeping some float gains."""
    from exporter.diagnosis import diagnosed, exported
    from exporter.recipe import given, load_recipe
    from exporter.report import strict_json
    from exporter.report.diagnosis import print_diagnosis, write_diagnosis
    from exporter.report.layers import SHOWN

    changes = given(
        precision="int8",
        weights=weights,
        io=io,
        num_classes=num_classes,
        postprocess=postprocess,
        preprocess=given(size=_size(size)),
        calibration=given(source=calib, limit=images, method=ranges),
        quantize=given(keep_float=tuple(keep_float) if keep_float else None),
    )
    bundle = exported(Path(model))
    if bundle and (plan or len(changes) > 1):
        raise UsageError(f"{model} is a bundle, which says how it was made", try_="no option, or MODEL with options")
    recipe = bundle.recipe if bundle else load_recipe(model, **changes)
    _refuse_ignored(recipe, {"--plan": plan, "--ranges": ranges})
    shown, state = None if quiet else console(stderr=json), bundle.state_sha256 if bundle else ""
    with redirect_stdout(sys.stderr) if json else nullcontext():  # a user's model may print
        found = diagnosed(recipe, plan=bundle.plan if bundle else plan, console=shown, state=state)
    command = bundle.command if bundle else _as_export(sys.argv[1:])
    if out:
        write_diagnosis(found, out, recipe.title, command)
    if json:
        sys.stdout.write(strict_json(found.model_dump()))
    elif shown:
        print_diagnosis(found, shown, f"{recipe.title} · int8", command, layers or SHOWN)
        if out:
            shown.print(f"\n{out}/", soft_wrap=True, markup=False)


@app.command(no_args_is_help=True)
def verify(
    bundle: options.Bundle,
    on: options.On = None,
    float_: options.Float = None,
    images: options.DeviceImages = None,
    baseline: options.Baseline = None,
    eval_: options.Eval = None,
    eval_images: options.EvalImages = None,
    junit: options.Junit = None,
    summary: options.Summary = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Check a BUNDLE: hashes, golden outputs on the local runtime, latency; parity and cost on devices."""
    from exporter.report import check_junit, strict_json
    from exporter.report.check import print_check, summarise
    from exporter.report.write import append_text, refuse_unwritable, write_text
    from exporter.verify.baseline import counts_before
    from exporter.verify.bundle import OnDevices, OnLabels, verify_bundle
    from exporter.verify.devices import device

    devices = [device(name) for name in dict.fromkeys(on or ())]
    _refuse_without_devices(on, {"--float": float_, "--images": images, "--baseline": baseline})
    refuse_unwritable(*(path for path in (junit, summary) if path))
    before = counts_before(baseline, bundle, devices) if baseline else ()
    asked = OnDevices(devices, twin=float_, images=images, baseline=before) if devices else None
    if eval_images and not eval_:
        raise UsageError("--eval-images without --eval", why="no labelled pictures are named", try_="--eval SOURCE")
    labelled = OnLabels(eval_, eval_images) if eval_ else None
    say = (lambda text: None) if quiet else partial(console(stderr=json).print, markup=False)
    check = verify_bundle(bundle, asked, say, labelled)
    if junit:
        write_text(junit, check_junit(check))
    if summary:
        append_text(summary, summarise(check))
    if json:
        sys.stdout.write(strict_json(check.model_dump()))
    elif not quiet:
        print_check(check, console())
    check.raise_on_failure()


@app.command(no_args_is_help=True)
def compare(old: options.Old, new: options.New, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Show two bundles of one model side by side: OLD, NEW; fail where NEW is worse."""
    from exporter.report import strict_json
    from exporter.report.compare import print_comparison
    from exporter.verify.compare import compare as compare_sides
    from exporter.verify.sides import read_side

    found = compare_sides(read_side(old), read_side(new))
    if json:
        sys.stdout.write(strict_json(found.model_dump()))
    elif not quiet:
        print_comparison(found, console())
    found.raise_on_regression()


@app.command(no_args_is_help=True)
def inspect(file: options.File, json: options.Json = False) -> None:
    """Show what a FILE holds: inputs, outputs, ops, versions, quantisation, metadata."""
    from exporter.report.inspect import inspect_files, print_inspection

    found = inspect_files(file)
    if json:
        sheets = [sheet.model_dump(mode="json") for sheet in found]
        sys.stdout.write(json_module.dumps(sheets[0] if len(sheets) == 1 else sheets, indent=1) + "\n")
    else:
        for sheet in found:
            print_inspection(sheet, console())


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Show every model: input size, parameters, MACs, published accuracy, weights."""
    from exporter.report.catalogue import catalogue, print_catalogue

    if json:
        sys.stdout.write(json_module.dumps(catalogue(), indent=1) + "\n")
    else:
        print_catalogue(console())


@app.command()
def doctor(json: options.Json = False) -> None:
    """Say what is ready on this machine, and how to get the rest."""
    from exporter.report.doctor import doctor as examine
    from exporter.report.doctor import print_doctor, raise_on_failure

    findings = examine()
    if json:
        sys.stdout.write(json_module.dumps([finding.model_dump() for finding in findings], indent=1) + "\n")
    else:
        print_doctor(findings, console())
    raise_on_failure(findings)


@app.command(no_args_is_help=True)
def setup(what: options.Emulated, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Fetch what an emulated device needs into the cache: emulator, userland, runtimes. Without root."""
    from exporter.progress import Stages
    from exporter.report.setup import print_setup, setup_json
    from exporter.verify.devices.arm64 import set_up

    shown = None if quiet else console(stderr=json)
    done = set_up(Stages(shown))
    if json:
        sys.stdout.write(setup_json(done))
    elif shown:
        print_setup(done, shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(app, arguments)


def _precision(chosen: dict[str, bool]) -> str | None:
    names = [name for name, wanted in chosen.items() if wanted]
    if len(names) > 1:
        raise UsageError("--int8, --weights-int8, --fp16 and --fp32 exclude each other")
    return names[0] if names else None


def _as_export(arguments: Sequence[str]) -> str:
    """The export that a `diagnose` with these arguments looks at."""
    left = [*arguments]
    for name, count in (("diagnose", 1), ("--json", 1), ("--quiet", 1), ("-q", 1), ("--out", 2), ("--layers", 2)):
        if name in left:
            del left[(at := left.index(name)) : at + count]
    kept = [word for word in left if not word.startswith(("--out=", "--layers="))]
    return shlex.join(["edge-export", *kept, "--int8"])


def _size(text: str | None) -> tuple[int, int] | None:
    """`512x384` -> (512, 384); one number is a square."""
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9][0-9]{0,4})(?:[xX]([1-9][0-9]{0,4}))?", text)
    if sides is None:
        raise UsageError(f"--size {text!r} is not a size", try_="--size 512x512 (height x width, in pixels)")
    return int(sides[1]), int(sides[2] or sides[1])


def _refuse_ignored(recipe: Recipe, given: dict[str, object]) -> None:
    """An option that would change nothing is a mistake."""
    named = [name for name, value in given.items() if value is not None]
    if recipe.precision != "int8" and named:
        raise UsageError(f"{' and '.join(named)} without --int8", why=f"{recipe.precision} has no ranges")
    if len(named) == len(given):
        raise UsageError("--plan and --ranges exclude each other", why="a plan holds finished ranges")


def _refuse_without_devices(on: Sequence[str] | None, given: dict[str, object]) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named and not on:
        raise UsageError(f"{' and '.join(named)} without --on", why="no device is named", try_="--on local, or another")


if __name__ == "__main__":
    main()
