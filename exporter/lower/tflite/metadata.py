"""TFLite Metadata: what the file says about itself to Android Studio, MediaPipe and the Task Library.

One flatbuffer, stored in the model under the name TFLITE_METADATA, and the files that it names (labels), appended to
the model as an uncompressed zip: a TFLite reader sees the flatbuffer at the front, a zip reader the archive at the end.
Source: tflite-support metadata_schema.fbs and "Adding metadata to TensorFlow Lite models" (ai.google.dev/edge/litert).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from exporter.errors import DataError, UsageError
from exporter.ir.graph import Graph, Value
from exporter.ir.quant import LIMITS
from exporter.lower.facts import Facts
from exporter.lower.tflite.metadata_schema import decode, encode

NAME = "TFLITE_METADATA"
LABELS = "labels.txt"
MIN_PARSER_VERSION = "1.0.0"
"""Every field and enum code written here has been in the schema since 1.0.0, but for groups of tensors."""
GROUPS_PARSER_VERSION = "1.2.0"
DETECTIONS = "detection_result"
DETECTION_NAMES = ("location", "category", "score", "number of detections")
"""What the Task Library finds the outputs of detection_postprocess by, in their order. Source: tflite-support
metadata_writers/object_detector.py, cc/task/vision/object_detector.cc.
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The zip format's first date, so that the same files give the same bytes."""


@dataclass(frozen=True)
class TensorMeta:
    """What one input or output means.

    `mean` and `std` make it an RGB image: they are per channel, for pixels in 0..255, and apply before quantisation.
    `low` and `high` are the range of the stored values, per channel or once. `labels_file` names an associated file
    with one label a line: for the last axis, or, with `labels_are_values`, for the values (class ids of a detector).
    `score_threshold` is the score below which an app should drop a result. `boxes` makes it boxes y0, x0, y1, x1 as
    parts of the input. `items` is the dimension along which it lists things, such as detections.
    """

    name: str
    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    labels_file: str | None = None
    labels_are_values: bool = False
    score_threshold: float | None = None
    boxes: bool = False
    items: int | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.low) != len(self.high):
            raise UsageError(f"metadata of {self.name}: mean and std, low and high go in pairs of equal length")


@dataclass(frozen=True)
class FileMetadata:
    """`model`: the ModelMetadata table as nested dicts (metadata_schema.py), empty when the file has none.

    `files`: the associated files by name. `buffers`: names and sizes of every metadata buffer, ours or not.
    """

    model: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    buffers: dict[str, int] = field(default_factory=dict)


def metadata_for(graph: Graph, facts: Facts) -> bytes:
    """The metadata buffer of a graph.

    Labels go to the outputs whose last dimension counts as many entries, or to the model where none does.
    """
    inputs = [_input(value, facts) for value in graph.inputs]
    outputs = [_output(name, value, facts) for name, value in zip(graph.output_names, graph.outputs, strict=True)]
    loose = (LABELS,) if facts.labels and not any(output.labels_file for output in outputs) else ()
    lists = [output.name for output in outputs if output.items is not None]
    return metadata_buffer(facts, inputs, outputs, files=loose, groups={DETECTIONS: lists} if lists else {})


def metadata_buffer(
    facts: Facts,
    inputs: Sequence[TensorMeta],
    outputs: Sequence[TensorMeta],
    files: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> bytes:
    """The flatbuffer to store under `NAME`: tensors in the file's order, `files` that belong to no one tensor, `groups`
    of outputs whose entries belong together.
    """
    grouped = [{"name": name, "tensor_names": list(names)} for name, names in groups.items()]
    model = {
        **_texts(
            name=facts.name,
            description=facts.description,
            version=facts.version,
            author=facts.author,
            license=facts.licence,
        ),
        "subgraph_metadata": [
            {
                "input_tensor_metadata": [_tensor(meta) for meta in inputs],
                "output_tensor_metadata": [_tensor(meta) for meta in outputs],
                **({"output_tensor_groups": grouped} if grouped else {}),
            }
        ],
        "min_parser_version": GROUPS_PARSER_VERSION if grouped else MIN_PARSER_VERSION,
    }
    if files:
        model["associated_files"] = [{"name": name, "type": "UNKNOWN"} for name in files]
    return encode(model)


def append_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """`model` followed by a zip of `files`: stored, sorted, dated 1980, offsets counted from the file's first byte."""
    if not files:
        return model
    buffer = io.BytesIO()
    buffer.write(model)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # "a" would search the weights for a zip
        for name in sorted(files):
            if not name or "/" in name or "\\" in name:
                raise UsageError(f"associated file {name!r} must be a plain file name")
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix on every host
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def read(path: Path) -> FileMetadata:
    """Metadata and associated files of a .tflite file, ours or another's. DataError when they cannot be read."""
    try:
        content = Path(path).read_bytes()
        if content[4:8] != b"TFL3":
            raise ValueError("the identifier TFL3 is not at byte 4")
        model = schema.Model.GetRootAs(content, 0)
        entries = [model.Metadata(i) for i in range(model.MetadataLength())]
        buffers = {entry.Name().decode(): _stored(model.Buffers(entry.Buffer())) for entry in entries}
        return FileMetadata(
            model=decode(buffers[NAME]) if NAME in buffers else {},
            files=_associated(content),
            buffers={name: len(stored) for name, stored in buffers.items()},
        )
    except OSError as error:
        raise DataError(f"cannot read {path}", why=str(error.strerror or error)) from error
    except Exception as error:  # the generated readers do not verify: a broken offset can raise nearly anything
        raise DataError(
            f"the TFLite metadata of {path} cannot be read", why=f"{type(error).__name__}: {error}"
        ) from error


def _input(value: Value, facts: Facts) -> TensorMeta:
    """An image where the facts give a normalisation for its channels, else a feature."""
    if len(value.shape) != 4 or value.shape[1] != len(facts.mean):
        return TensorMeta(value.name)
    mean = tuple(255.0 * m for m in facts.mean)
    std = tuple(255.0 * s for s in facts.std)
    ends: list[tuple[float, ...]] = [
        tuple((pixel - m) / s for m, s in zip(mean, std, strict=True)) for pixel in (0, 255)
    ]
    if value.quant is not None:
        ends = [(limit,) for limit in LIMITS[value.quant.dtype]]
    _, _, height, width = value.shape
    return TensorMeta(value.name, f"RGB image, {width} wide and {height} high", mean, std, ends[0], ends[1])


def _output(name: str, value: Value, facts: Facts) -> TensorMeta:
    """Labels on the axis that counts as many; the four outputs of a detector as its mobile APIs want them."""
    description = facts.outputs.get(name, "")
    node = value.producer
    if node is None or node.op.name != "detection_postprocess":
        on_axis = bool(facts.labels) and value.shape[-1:] == (len(facts.labels),)
        return TensorMeta(name, description, labels_file=LABELS if on_axis else None, boxes=name == facts.boxes)
    role = DETECTION_NAMES[node.outputs.index(value)]
    return TensorMeta(
        role,
        description,
        labels_file=LABELS if facts.labels and role == "category" else None,
        labels_are_values=True,
        score_threshold=node.attrs["score_threshold"] if role == "score" else None,
        boxes=role == "location",
        items=None if role == "number of detections" else 2,
    )


def _tensor(meta: TensorMeta) -> dict[str, Any]:
    table: dict[str, Any] = _texts(name=meta.name, description=meta.description)
    content: tuple[str, dict[str, Any]] = ("FeatureProperties", {})
    if meta.mean:
        content = ("ImageProperties", {"color_space": "RGB"})
    elif meta.boxes:  # the index says where left, top, right and bottom stand
        corners = {"index": [1, 0, 3, 2], "type": "BOUNDARIES", "coordinate_type": "RATIO"}
        content = ("BoundingBoxProperties", corners)
    table["content"] = {"content_properties": content}
    if meta.items is not None:
        table["content"]["range"] = {"min": meta.items, "max": meta.items}
    units: list[dict[str, Any]] = []
    if meta.mean:
        units.append({"options": ("NormalizationOptions", {"mean": meta.mean, "std": meta.std})})
    if meta.score_threshold is not None:
        units.append({"options": ("ScoreThresholdingOptions", {"global_score_threshold": meta.score_threshold})})
    if units:
        table["process_units"] = units
    if meta.low:
        table["stats"] = {"max": meta.high, "min": meta.low}
    if meta.labels_file:
        kind = "TENSOR_VALUE_LABELS" if meta.labels_are_values else "TENSOR_AXIS_LABELS"
        table["associated_files"] = [{"name": meta.labels_file, "type": kind}]
    return table


def _texts(**texts: str) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}


def _stored(buffer: Any) -> bytes:
    return buffer.DataAsNumpy().tobytes() if buffer.DataLength() else b""


def _associated(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:  # no archive, or weights that look like the end of one
        return {}
