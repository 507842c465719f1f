"""`plan.json`: every quantisation parameter of a model, for review, comparison and reuse (`--plan plan.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exporter.errors import DataError
from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams, fp16_grid
from exporter.quantize.assign import Plan
from exporter.quantize.equalize import Octaves

FORMAT = 1


def write_plan(plan: Plan, path: Path, model: str, octaves: Octaves | None = None) -> None:
    """One value a line, in graph order, so that two plans compare with a line diff. `octaves` are those of the
    equalised graph that the plan is for.
    """
    sections: dict[str, dict[str, Any]] = {"values": {name: _record(params) for name, params in plan.items()}}
    if octaves:
        sections["equalization"] = {name: list(scales) for name, scales in octaves.items()}
    parts = [f' "format": {FORMAT}', f' "model": {json.dumps(model)}']
    for title, section in sections.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(record)}" for name, record in section.items())
        parts.append(f' "{title}": {{\n{lines}\n }}')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def read_plan(path: Path) -> tuple[Plan, Octaves]:
    """The plan in `path`, and what its graph is equalised by. Raises DataError for anything that is not one."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path} is a plan of format {content['format']}", try_="calibrate again")
        octaves = {name: tuple(map(int, scales)) for name, scales in content.get("equalization", {}).items()}
        return {name: _params(record) for name, record in content["values"].items()}, octaves
    except OSError as error:
        raise DataError(f"cannot read the plan {path}", why=error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a plan", why=f"{type(error).__name__}: {error}", try_="use a plan.json from a bundle"
        ) from error


def check_plan(plan: Plan, graph: Graph) -> None:
    """Every scale must lie on the float16 grid; a plan edited by hand may not."""
    for name, params in plan.items():
        if off := [scale for scale in params.scale if fp16_grid(scale) != scale]:
            raise DataError(
                f"plan: the scale of {name} is not a float16 value of at least 2^-14",
                why=f"{graph.name} could not be written with the same integers in every format",
                try_=f"use {fp16_grid(off[0])!r} instead of {off[0]!r}",
            )


def _record(params: QuantParams) -> dict[str, Any]:
    record: dict[str, Any] = {"scale": params.scale[0] if params.axis is None else list(params.scale)}
    record |= {"zero_point": params.zero_point, "dtype": params.dtype}
    return record if params.axis is None else record | {"axis": params.axis}


def _params(record: dict[str, Any]) -> QuantParams:
    scale = record["scale"]
    scales = tuple(float(s) for s in scale) if isinstance(scale, list) else (float(scale),)
    return QuantParams(scales, int(record["zero_point"]), record.get("axis"), record["dtype"])
