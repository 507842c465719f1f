"""Apple's protobuf schema of Core ML models, from coremltools: the only part of that package that is used here."""

from __future__ import annotations

import importlib
import logging
import warnings
from types import ModuleType

from exporter.errors import RuntimeUnavailable


def model_schema() -> ModuleType:
    """`Model_pb2`. Raises RuntimeUnavailable where coremltools is absent."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of every part of Core ML that only a Mac has
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("coremltools.proto.Model_pb2")
    except ImportError as error:
        raise RuntimeUnavailable(
            "coremltools is not installed", why=str(error), try_='pip install "edge-export[coreml]"'
        ) from error
    finally:
        logger.setLevel(level)
