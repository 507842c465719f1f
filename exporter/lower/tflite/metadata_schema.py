"""TFLite Metadata's schema as rows, and a codec that reads and writes flatbuffers by them.

Names, slots and enum codes are those of tflite-support's metadata_schema.fbs 1.5.0 (identifier M001), which puts every
field in the next slot and a union in two. Tables are plain dicts: absent fields are absent keys, a union is
`(member name, dict)`, an enum is its name. Members that this file does not list (tokenizers) are kept as a name alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

IDENTIFIER = b"M001"

TABLES: dict[str, dict[str, str]] = {
    "ModelMetadata": {
        "name": "string",
        "description": "string",
        "version": "string",
        "subgraph_metadata": "[SubGraphMetadata]",
        "author": "string",
        "license": "string",
        "associated_files": "[AssociatedFile]",
        "min_parser_version": "string",
    },
    "SubGraphMetadata": {
        "name": "string",
        "description": "string",
        "input_tensor_metadata": "[TensorMetadata]",
        "output_tensor_metadata": "[TensorMetadata]",
        "associated_files": "[AssociatedFile]",
        "input_process_units": "[ProcessUnit]",
        "output_process_units": "[ProcessUnit]",
        "input_tensor_groups": "[TensorGroup]",
        "output_tensor_groups": "[TensorGroup]",
    },
    "TensorMetadata": {
        "name": "string",
        "description": "string",
        "dimension_names": "[string]",
        "content": "Content",
        "process_units": "[ProcessUnit]",
        "stats": "Stats",
        "associated_files": "[AssociatedFile]",
    },
    "AssociatedFile": {
        "name": "string",
        "description": "string",
        "type": "AssociatedFileType",
        "locale": "string",
        "version": "string",
    },
    "Content": {"content_properties": "ContentProperties", "range": "ValueRange"},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": "ColorSpaceType", "default_size": "ImageSize"},
    "ImageSize": {"width": "uint", "height": "uint"},
    "BoundingBoxProperties": {"index": "[uint]", "type": "BoundingBoxType", "coordinate_type": "CoordinateType"},
    "AudioProperties": {"sample_rate": "uint", "channels": "uint"},
    "ValueRange": {"min": "int", "max": "int"},
    "ProcessUnit": {"options": "ProcessUnitOptions"},
    "NormalizationOptions": {"mean": "[float]", "std": "[float]"},
    "ScoreCalibrationOptions": {"score_transformation": "ScoreTransformationType", "default_score": "float"},
    "ScoreThresholdingOptions": {"global_score_threshold": "float"},
    "Stats": {"max": "[float]", "min": "[float]"},
    "TensorGroup": {"name": "string", "tensor_names": "[string]"},
}
UNIONS = {  # the code is the position; 0 is no member
    "ContentProperties": (
        "NONE",
        "FeatureProperties",
        "ImageProperties",
        "BoundingBoxProperties",
        "AudioProperties",
    ),
    "ProcessUnitOptions": (
        "NONE",
        "NormalizationOptions",
        "ScoreCalibrationOptions",
        "ScoreThresholdingOptions",
        "BertTokenizerOptions",
        "SentencePieceTokenizerOptions",
        "RegexTokenizerOptions",
    ),
}
ENUMS = {
    "AssociatedFileType": (
        "UNKNOWN",
        "DESCRIPTIONS",
        "TENSOR_AXIS_LABELS",
        "TENSOR_VALUE_LABELS",
        "TENSOR_AXIS_SCORE_CALIBRATION",
        "VOCABULARY",
        "SCANN_INDEX_FILE",
    ),
    "ColorSpaceType": ("UNKNOWN", "RGB", "GRAYSCALE"),
    "BoundingBoxType": ("UNKNOWN", "BOUNDARIES", "UPPER_LEFT", "CENTER"),
    "CoordinateType": ("RATIO", "PIXEL"),
    "ScoreTransformationType": ("IDENTITY", "LOG", "INVERSE_LOGISTIC"),
}
_NUMBERS = {
    "float": number_types.Float32Flags,
    "int": number_types.Int32Flags,
    "uint": number_types.Uint32Flags,
    "byte": number_types.Uint8Flags,
}


def encode(model: Mapping[str, Any]) -> bytes:
    """A ModelMetadata table as a flatbuffer."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write_table(builder, "ModelMetadata", model), IDENTIFIER)
    return bytes(builder.Output())


def decode(content: bytes) -> dict[str, Any]:
    """The ModelMetadata table of a flatbuffer. ValueError for another file, anything for a broken one."""
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"identifier {content[4:8]!r} where {IDENTIFIER!r} belongs")
    root = flatbuffers.encode.Get(number_types.UOffsetTFlags.packer_type, content, 0)
    return _read_table(Table(content, root), "ModelMetadata")


def _slots(table: str) -> list[tuple[str, str, int]]:
    """(field, kind, slot); a union's value stands in the given slot, its type one before."""
    rows, slot = [], 0
    for field, kind in TABLES[table].items():
        slot += kind in UNIONS
        rows.append((field, kind, slot))
        slot += 1
    return rows


def _write_table(builder: flatbuffers.Builder, table: str, fields: Mapping[str, Any]) -> int:
    if unknown := fields.keys() - TABLES[table].keys():
        raise KeyError(f"{table} has no field {sorted(unknown)}")
    rows = [row for row in _slots(table) if row[0] in fields]
    offsets = {field: _write_object(builder, kind, fields[field]) for field, kind, _ in rows if _is_object(kind)}
    builder.StartObject(len(TABLES[table]) + sum(kind in UNIONS for kind in TABLES[table].values()))
    for field, kind, slot in rows:
        value = fields[field]
        if kind in UNIONS:
            builder.PrependUint8Slot(slot - 1, UNIONS[kind].index(value[0]), 0)
        if field in offsets:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[field], 0)
        elif kind in ENUMS:
            builder.PrependUint8Slot(slot, ENUMS[kind].index(value), 0)
        else:
            builder.PrependSlot(_NUMBERS[kind], slot, value, 0)
    return int(builder.EndObject())


def _is_object(kind: str) -> bool:
    return kind not in ENUMS and kind not in _NUMBERS


def _write_object(builder: flatbuffers.Builder, kind: str, value: Any) -> int:
    """A string, vector, table or union member; returns its offset."""
    if kind == "string":
        return int(builder.CreateString(value))
    if kind in UNIONS:
        return _write_table(builder, *value)
    if not kind.startswith("["):
        return _write_table(builder, kind, value)
    item = kind[1:-1]
    if item in _NUMBERS:
        return _write_vector(builder, value, lambda number: builder.Prepend(_NUMBERS[item], number))
    return _write_vector(
        builder, [_write_object(builder, item, entry) for entry in value], builder.PrependUOffsetTRelative
    )


def _write_vector(builder: flatbuffers.Builder, values: Sequence[Any], prepend: Any) -> int:
    """Every element here is four bytes: an offset, float, int or uint. Flatbuffers are written back to front."""
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        prepend(value)
    return int(builder.EndVector())


def _read_table(table: Table, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field, kind, slot in _slots(name):
        where = table.Offset(4 + 2 * slot)
        if kind in UNIONS:
            tag = table.Offset(4 + 2 * (slot - 1))
            member = _name(UNIONS[kind], table.Get(_NUMBERS["byte"], tag + table.Pos) if tag else 0)
            if where and member != "NONE":
                inner = Table(table.Bytes, table.Indirect(where + table.Pos))
                fields[field] = (member, _read_table(inner, member) if member in TABLES else {})
        elif where:
            fields[field] = _read_field(table, kind, where + table.Pos)
    return fields


def _read_field(table: Table, kind: str, position: int) -> Any:
    if kind in ENUMS:
        return _name(ENUMS[kind], table.Get(_NUMBERS["byte"], position))
    if kind in _NUMBERS:
        return table.Get(_NUMBERS[kind], position)
    if kind == "string":
        return table.String(position).decode(errors="replace")
    if not kind.startswith("["):
        return _read_table(Table(table.Bytes, table.Indirect(position)), kind)
    start = table.Vector(position - table.Pos)
    length = table.VectorLen(position - table.Pos)
    if length > len(table.Bytes):
        raise ValueError(f"a vector of {length} elements in {len(table.Bytes)} bytes")
    return [_read_field(table, kind[1:-1], start + 4 * i) for i in range(length)]


def _name(names: Sequence[str], code: int) -> str:
    return names[code] if code < len(names) else f"code {code}"
