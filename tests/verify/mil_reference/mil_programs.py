"""MIL programs that coremltools builds and saves: the evidence that does not come from our own writer."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporter.verify.runtimes.mil_reference import MilReference

logging.getLogger("coremltools").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

gc.freeze()  # coremltools collects garbage in every conversion: 0.2 s each, with all of torch to look through
Build = Callable[..., Any]
PRECISIONS = ("float32", "float16")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """coremltools draws progress bars."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def like(x: Any, values: Any) -> np.ndarray:
    """A constant in the element type of x, as most ops want their constants."""
    return np.asarray(values, types.nptype_from_builtin(x.dtype))


def program(build: Build, arrays: Sequence[np.ndarray], opset: str = "iOS17", precision: str = "float32") -> Any:
    """A program whose inputs are float32 (or int32) arrays like these, and whose ops `build` makes of them, in float16
    where asked; its results, one or several, leave as float32 where they are float16.
    """
    kinds = {"float32": types.fp32, "int32": types.int32}
    specs = [mb.TensorSpec(a.shape, kinds[a.dtype.name]) for a in arrays]

    def body(*inputs: Any) -> Any:
        if precision == "float16":
            inputs = tuple(mb.cast(x=x, dtype="fp16") if x.dtype == types.fp32 else x for x in inputs)
        made = build(*inputs)
        results = made if isinstance(made, list | tuple) else [made]
        leave = {types.fp16: "fp32", types.bool: "int32", types.int8: "int32", types.uint8: "int32"}
        return [mb.cast(x=y, dtype=leave[y.dtype]) if y.dtype in leave else mb.identity(x=y) for y in results]

    def named(count: int) -> Callable[..., Any]:
        scope: dict[str, Any] = {"body": body}
        names = ", ".join(f"in{i}" for i in range(count))
        exec(f"def main({names}): return body({names})", scope)  # mb.program takes input names from the signature
        return scope["main"]  # type: ignore[no-any-return]

    with silent():
        return mb.program(input_specs=specs, opset_version=getattr(ct.target, opset))(named(len(arrays)))


def save(built: Any, path: Path, opset: str = "iOS17") -> Path:
    """As a .mlpackage, no pass between."""
    with silent():
        model = ct.convert(
            built, source="milinternal", convert_to="mlprogram", minimum_deployment_target=getattr(ct.target, opset),
            compute_precision=ct.precision.FLOAT32, pass_pipeline=ct.PassPipeline.EMPTY, skip_model_load=True,
        )  # fmt: skip
        model.save(str(path))
    return path


def opened(
    build: Build, arrays: Sequence[np.ndarray], opset: str = "iOS17", precision: str = "float32"
) -> MilReference:
    """The program, saved, and read back by the executor."""
    folder = Path(tempfile.mkdtemp())
    return MilReference(save(program(build, arrays, opset, precision), folder / "m.mlpackage", opset))


def computed(build: Build, *arrays: np.ndarray, opset: str = "iOS17", precision: str = "float32") -> list[np.ndarray]:
    """What the executor computes for a saved program, in the order of its outputs."""
    model = opened(build, arrays, opset, precision)
    results = model.run(list(arrays))
    return [results[info.name] for info in model.outputs]


def inferred(build: Build, *arrays: np.ndarray, opset: str = "iOS17") -> list[np.ndarray | None]:
    """What coremltools itself computes for the op on constants; None where it does not."""
    found: list[np.ndarray | None] = []

    def constants(_: Any) -> Any:
        made = build(*(mb.const(val=a) for a in arrays))
        results = made if isinstance(made, list | tuple) else [made]
        found.extend(None if y.val is None else np.asarray(y.val) for y in results)
        return mb.identity(x=_)

    program(constants, [np.zeros(1, np.float32)], opset)
    return found


def check(
    build: Build,
    expected: Callable[..., Any],
    *arrays: np.ndarray,
    opset: str = "iOS17",
    precision: str = "float32",
    op: str = "",
    atol: float = 2e-6,
    infer: bool = True,
) -> None:
    """The saved program computes what `expected` makes of float64 tensors: within `atol` and 2e-6 of the value in
    float32, within one step of float16 in float16. So does coremltools where it computes the op on constants. `op`
    must be in the saved file.
    """
    model = opened(build, arrays, opset, precision)
    assert model.outputs
    if op:
        assert op in [step.op for step in model.program.steps]
    results = model.run(list(arrays))
    given = [a.astype(np.float16) if precision == "float16" and a.dtype == np.float32 else a for a in arrays]
    wide = [torch.from_numpy(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in given]
    wanted = expected(*wide)
    wanted = [w.numpy() for w in (wanted if isinstance(wanted, list | tuple) else [wanted])]
    assert len(wanted) == len(model.outputs)
    theirs = inferred(build, *arrays, opset=opset) if infer and precision == "float32" else [None] * len(wanted)
    rtol = 2.0**-10 if precision == "float16" else 2e-6
    for info, want, inference in zip(model.outputs, wanted, theirs, strict=True):
        assert results[info.name].shape == want.shape
        np.testing.assert_allclose(results[info.name], want, rtol=rtol, atol=max(atol, 6e-8))
        if inference is not None:
            np.testing.assert_allclose(results[info.name], inference, rtol=4e-6, atol=2 * atol)
