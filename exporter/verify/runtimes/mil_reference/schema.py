"""coremltools, without what it says on import; the executor takes Apple's protobuf schema of models from it."""

from __future__ import annotations

import importlib
import logging
import warnings
from types import ModuleType

from exporter.errors import RuntimeUnavailable


def silent_import(name: str) -> ModuleType:
    """A module of coremltools. Raises RuntimeUnavailable where the package is absent."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of every part of Core ML that only a Mac has
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeUnavailable(
            "coremltools is not installed", why=str(error), try_='pip install "edge-export[coreml]"'
        ) from error
    finally:
        logger.setLevel(level)


def model_schema() -> ModuleType:
    """`Model_pb2`."""
    return silent_import("coremltools.proto.Model_pb2")
