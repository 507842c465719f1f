"""The schema of Core ML's files and the writer of their weights, as coremltools ships them (BSD-3-Clause).

No converter of coremltools runs: a program is written op by op, straight into the protobuf.
"""

from __future__ import annotations

import logging

_logger = logging.getLogger("coremltools")
_level = _logger.level
_logger.setLevel(logging.ERROR)  # on import it warns of every runtime that is absent on Linux, and of torch's version
try:
    from coremltools.libmilstoragepython import _BlobStorageWriter as BlobWriter
    from coremltools.proto import FeatureTypes_pb2 as FeatureTypes
    from coremltools.proto import MIL_pb2 as MIL
    from coremltools.proto import Model_pb2 as Model
finally:
    _logger.setLevel(_level)

__all__ = ["MIL", "BlobWriter", "FeatureTypes", "Model"]
