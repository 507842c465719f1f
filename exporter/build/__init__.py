"""build: a model's name -> `nn.Module` in eval mode, with weights loaded and checked.

Importing this package registers every model family.
"""

from exporter.build import cspdensenet as cspdensenet
from exporter.build import cspnet as cspnet
from exporter.build import darknet_variants as darknet_variants
from exporter.build import efficientdet_variants as efficientdet_variants
from exporter.build import fasternet as fasternet
from exporter.build import fusion as fusion
from exporter.build import litehrnet_variants as litehrnet_variants
from exporter.build.checkpoints import load_weights, refit_batchnorm
from exporter.build.download import digest_of, fetch, resolve
from exporter.build.profile import count
from exporter.build.registry import Checkpoint, ModelInfo, build_model, list_models, model_info, register_model

__all__ = [
    "Checkpoint",
    "ModelInfo",
    "build_model",
    "count",
    "digest_of",
    "fetch",
    "list_models",
    "load_weights",
    "model_info",
    "refit_batchnorm",
    "register_model",
    "resolve",
]
