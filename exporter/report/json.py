"""report.json: the `Report` itself, for machines."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import ValidationError

from exporter.errors import DataError
from exporter.verify.results import Report


def to_json(report: Report) -> str:
    """Strict JSON in the order of the fields, led by `passed` (null where nothing was verified).

    Equal reports give equal bytes. JSON has no infinities: they become the strings `inf`, `-inf` and `nan`.
    """
    passed = report.verification.passed if report.verification else None
    return strict_json({"passed": passed, **report.model_dump(mode="python")})


def strict_json(content: Any) -> str:
    """Indented, without infinities and NaN."""
    return json.dumps(_strict(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report that `to_json` wrote. Raises DataError for any other text."""
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        where = [f"{'.'.join(map(str, fault['loc'])) or 'text'}  {fault['msg']}" for fault in error.errors()]
        raise DataError("this is not a report.json", where=where, try_="export again to get one") from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
