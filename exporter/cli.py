"""Arguments -> recipe -> pipeline -> exit code; nothing else.

`edge-export MODEL [options]` is the `export` command with its name left out.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from exporter.errors import ExportError, UsageError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells give it."""


class _ModelFirst(TyperGroup):
    """A first argument that is no command is a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h", "--version"):
            args = ["export", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer(
    cls=_ModelFirst,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="PyTorch vision models to verified INT8 files for phones.\n\n"
    "[bold]edge-export efficientdet_d0 --target tflite --int8[/]\n\n"
    "A model's name straight after the command exports it: the same as [bold]edge-export export MODEL[/].",
    pretty_exceptions_enable=False,
)


class Precision(str, Enum):
    """Choices of --io."""

    float = "float"
    int8 = "int8"
    uint8 = "uint8"


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the report as JSON on standard output, progress on standard error.")
]


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def export(
    model: Annotated[str, typer.Argument(help="A model or recipe name, a recipe .yaml, or your own module:function.")],
    target: Annotated[str, typer.Option(help="File format.")] = "",
    int8: Annotated[bool, typer.Option("--int8", help="Full static integer: int8 weights and activations.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights stored as float16.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Weights stored as float32.")] = False,
    weights: Annotated[str, typer.Option(help="coco, a checkpoint FILE, or random (seeded).")] = "",
    calib: Annotated[
        str, typer.Option(help="Calibration samples: a folder of pictures, .npz/.npy, or a COCO .json.")
    ] = "",
    images: Annotated[int, typer.Option(help="At most this many calibration samples.", min=0)] = 0,
    ranges: Annotated[str, typer.Option(help="minmax, percentile, mse or entropy.")] = "",
    plan: Annotated[Path | None, typer.Option(help="Reuse a plan.json: no calibration.")] = None,
    io: Annotated[Precision | None, typer.Option(help="Type of the int8 model's inputs and outputs.")] = None,
    size: Annotated[str, typer.Option(help="Input size HxW, such as 512x512.")] = "",
    num_classes: Annotated[int, typer.Option(help="Classes of the model's head.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the bundle (default: out/NAME-PRECISION).")] = None,
    stop_after: Annotated[str, typer.Option(help="Stop after this stage: build, capture, simplify, …")] = "report",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Export MODEL: build, capture, simplify, quantize, lower, verify, report."""
    from exporter.pipeline import Pipeline
    from exporter.recipe import load_recipe
    from exporter.report import print_report, to_json
    from exporter.verify.gates import raise_on_failure

    precisions = [name for name, chosen in (("int8", int8), ("float16", fp16), ("float32", fp32)) if chosen]
    if len(precisions) > 1:
        raise UsageError("choose one of --int8, --fp16 and --fp32")
    recipe = load_recipe(
        model,
        targets=(target,) if target else None,
        precision=precisions[0] if precisions else None,
        weights=weights or None,
        io=io.value if io else None,
        num_classes=num_classes or None,
        preprocess={"size": _size(size) if size else None},
        calibration={"source": calib or None, "limit": images or None, "method": ranges or None},
    )
    console = None if quiet else Console(stderr=json, highlight=False)
    command = " ".join(["edge-export", *sys.argv[1:]])
    pipeline = Pipeline(recipe, plan=plan, console=console, command=command)
    folder = pipeline.run(out, stop_after)
    if stop_after in ("capture", "simplify", "quantize"):
        sys.stdout.write(pipeline.text())
    if stop_after != "report":
        return
    if json:
        sys.stdout.write(to_json(pipeline.result))
    elif console:
        print_report(pipeline.result, console)
        console.print(f"\n{folder}/", soft_wrap=True)
    raise_on_failure(pipeline.verification)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder that edge-export wrote.")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Check a BUNDLE: hashes, golden outputs on the local runtime, latency."""
    from exporter.verify.bundle import print_check, verify_bundle

    check = verify_bundle(bundle)
    if json:
        sys.stdout.write(check.model_dump_json(indent=1) + "\n")
    elif not quiet:
        print_check(check, Console(highlight=False))
    check.raise_on_failure()


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="A .tflite file or a bundle.")], json: Json = False) -> None:
    """Show what a FILE holds: inputs, outputs, ops, versions, quantisation, metadata."""
    from exporter.report.inspect import inspect_file, print_inspection

    found = inspect_file(file)
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        print_inspection(found, Console(highlight=False))


@app.command("list")
def list_(json: Json = False) -> None:
    """Show every model: task, size, parameters, MACs, published accuracy, weights."""
    from exporter.report.catalogue import catalogue, print_catalogue

    if json:
        import json as json_module

        sys.stdout.write(json_module.dumps(catalogue(), indent=1) + "\n")
    else:
        print_catalogue(Console(highlight=False))


@app.command()
def doctor() -> None:
    """Say which targets and runtimes are ready on this machine, and how to get the others."""
    from exporter.report.doctor import print_doctor

    print_doctor(Console(highlight=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command: every failure ends in one message and the exit code of its family."""
    try:
        app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except ExportError as error:
        _leave(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _leave("interrupted: nothing was written", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if show := getattr(error, "format_message", None):  # click's own usage errors
            hint = getattr(getattr(error, "ctx", None), "command_path", "edge-export")
            _leave(str(UsageError(show(), try_=f"{hint} --help")), UsageError.exit_code)
        traceback.print_exc()
        _leave("error: this is a bug in edge-export\n  try   report the lines above\nexit 1 (internal)", 1)


def _leave(message: str, code: int) -> None:
    sys.stderr.write(message + "\n")
    sys.exit(code)


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--size {text!r} is not a size", try_="--size 512x512 (height x width)")
    return int(parts[0]), int(parts[-1])


if __name__ == "__main__":
    main()
