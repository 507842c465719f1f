"""Google's own TFLite Metadata reader, wherever it can be had."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path

import pytest


@functools.cache
def reader():
    """The `metadata` module of tflite-support or mediapipe, whose `MetadataDisplayer` reads a file; skips otherwise.

    mediapipe 1.x ships the reader but cannot import it as packaged: the package pulls in OpenCV and audio, and the
    extension `_pywrap_metadata_version`, which only the writer calls, is missing. So the packages on the way are
    entered without running their `__init__`. `pip install --no-deps mediapipe` is enough.
    """
    try:
        return importlib.import_module("tensorflow_lite_support.metadata.python.metadata")
    except ImportError:
        pass
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or spec.origin is None:
        pytest.skip("neither mediapipe nor tflite-support is installed")
    root = Path(spec.origin).parent
    for name in ("", ".tasks", ".tasks.python", ".tasks.python.core", ".tasks.python.metadata"):
        package = sys.modules[f"mediapipe{name}"] = types.ModuleType(f"mediapipe{name}")
        package.__path__ = [str(root.joinpath(*name.split(".")))]
    for name in ("mediapipe.tasks.cc", "mediapipe.tasks.cc.metadata", "mediapipe.tasks.cc.metadata.python"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["mediapipe.tasks.cc.metadata.python"]._pywrap_metadata_version = None
    return importlib.import_module("mediapipe.tasks.python.metadata.metadata")
