"""The schema of Core ML's files and the writer of their weights, as coremltools ships them (BSD-3-Clause).

No converter of coremltools runs: a program is written op by op, straight into the protobuf.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

NAME = "coremltools"


@contextmanager
def _unopened() -> Iterator[None]:
    """Inside, modules of coremltools are imported without the package's own `__init__`: that one loads every converter,
    which takes two seconds, and warns of each part that only a Mac has.
    """
    if NAME in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {NAME!r}", name=NAME)
    bare = ModuleType(NAME)
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[NAME] = bare
    try:
        yield
    finally:
        del sys.modules[NAME]


with _unopened():
    from coremltools.libmilstoragepython import _BlobStorageWriter as BlobWriter
    from coremltools.proto import FeatureTypes_pb2 as FeatureTypes
    from coremltools.proto import MIL_pb2 as MIL
    from coremltools.proto import Model_pb2 as Model

__all__ = ["MIL", "BlobWriter", "FeatureTypes", "Model"]
