"""Compound scaling as data: one row per EfficientDet, registered in its flavours.

Source: google/automl `hparams_config.py` and README (scaling, AP), effdet 0.4.1 `model_config.py` (weights, their AP on
COCO val2017). Parameters and GMACs were measured on effdet, those of the symmetric D2 and up on this implementation:
effdet publishes no weights for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from exporter.build.efficientdet import Config, EfficientDet, EfficientDetSegmentation
from exporter.build.registry import HALF, IMAGENET_MEAN, IMAGENET_STD, Checkpoint, ModelInfo, register_model

RELEASE = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1/"
SOURCE = "google/automl efficientdet; names and weights: effdet (rwightman/efficientdet-pytorch)"


@dataclass(frozen=True)
class Variant:
    """One size. params: of the tf_ and of the symmetric flavour. AP of the TensorFlow weights in percent, as published
    by google/automl on COCO val2017 and test-dev."""

    name: str
    side: int
    config: Config
    params: int
    symmetric_params: int | None
    gmacs: float
    val: float
    test_dev: float | None = None


# D6 and up use the plain sum for stability (google/automl).
# fmt: off
VARIANTS = (
    Variant("d0", 512, Config("b0", 64, 3, 3), 3_880_067, 3_877_763, 2.492, 34.3, 34.6),
    Variant("d1", 640, Config("b1", 88, 4, 3), 6_625_898, 6_622_026, 6.003, 40.2, 40.5),
    Variant("d2", 768, Config("b2", 112, 5, 3), 8_097_039, 8_091_215, 10.83, 43.5, 43.9),
    Variant("d3", 896, Config("b3", 160, 6, 4), 12_032_296, 12_022_376, 24.57, 46.8, 47.2),
    Variant("d4", 1024, Config("b4", 224, 7, 4), 20_723_675, 20_707_995, 54.58, 49.3, 49.7),
    Variant("d5", 1280, Config("b5", 288, 7, 4), 33_653_315, 33_633_155, 134.1, 51.2, 51.5),
    Variant("d6", 1280, Config("b6", 384, 8, 5, 4.0, "sum"), 51_871_782, 51_841_062, 224.1, 52.1, 52.6),
    Variant("d7", 1536, Config("b6", 384, 8, 5, 5.0, "sum"), 51_871_782, 51_841_062, 322.7, 53.4, 53.7),
    Variant("d7x", 1536, Config("b7", 384, 8, 5, 4.0, "sum", (3, 8)), 77_147_166, 77_110_302, 407.6, 54.4, 55.1),
    Variant("lite0", 320, Config("lite0", 64, 3, 3, 3.0, "sum"), 3_243_470, None, 0.974, 26.41),
    Variant("lite1", 384, Config("lite1", 88, 4, 3, 3.0, "sum"), 4_248_318, None, 1.967, 31.50),
    Variant("lite2", 448, Config("lite2", 112, 5, 3, 3.0, "sum"), 5_252_334, None, 3.371, 35.06),
    Variant("lite3", 512, Config("lite3", 160, 6, 4, 4.0, "sum"), 8_350_862, None, 7.480, 38.77),
    Variant("lite3x", 640, Config("lite3", 200, 6, 4, 3.0, "sum"), 9_280_862, None, 13.98, 42.64),
    Variant("lite4", 640, Config("lite4", 224, 7, 4, 4.0, "sum"), 15_130_894, None, 20.17, 43.18),
)
# fmt: on

# Model -> file of its COCO weights (the end is the start of its sha256) and their AP on val2017, run by effdet.
COCO = {
    "efficientdet_d0": ("efficientdet_d0-f3276ba8", 33.6),
    "efficientdet_d1": ("efficientdet_d1-bb7e98fe", 39.4),
    "tf_efficientdet_d0": ("tf_efficientdet_d0_34-f153e0cf", 34.2),
    "tf_efficientdet_d1": ("tf_efficientdet_d1_40-a30f94af", 40.1),
    "tf_efficientdet_d2": ("tf_efficientdet_d2_43-8107aa99", 43.4),
    "tf_efficientdet_d3": ("tf_efficientdet_d3_47-0b525f35", 47.1),
    "tf_efficientdet_d4": ("tf_efficientdet_d4_49-f56376d9", 49.2),
    "tf_efficientdet_d5": ("tf_efficientdet_d5_51-c79f9be6", 51.2),
    "tf_efficientdet_d6": ("tf_efficientdet_d6_52-4eda3773", 52.0),
    "tf_efficientdet_d7": ("tf_efficientdet_d7_53-6d1d7a95", 53.1),
    "tf_efficientdet_d7x": ("tf_efficientdet_d7x-f390b87c", 54.3),
    "tf_efficientdet_lite0": ("tf_efficientdet_lite0-dfacfc78", 27.1),
    "tf_efficientdet_lite1": ("tf_efficientdet_lite1-6dc7ab30", 32.2),
    "tf_efficientdet_lite2": ("tf_efficientdet_lite2-86c5d55b", 35.9),
    "tf_efficientdet_lite3": ("tf_efficientdet_lite3-506852cb", 39.6),
    "tf_efficientdet_lite3x": ("tf_efficientdet_lite3x-8404c57b", 43.6),
    "tf_efficientdet_lite4": ("tf_efficientdet_lite4-391ddabc", 44.2),
}

# Trained with adversarial examples (AdvProp), on pixels scaled to -1..1; effdet publishes no AP for them.
ADVPROP = {
    "tf_efficientdet_d0": "tf_efficientdet_d0_ap-d0cdbd0a",
    "tf_efficientdet_d1": "tf_efficientdet_d1_ap-7721d075",
    "tf_efficientdet_d2": "tf_efficientdet_d2_ap-a2995c19",
    "tf_efficientdet_d3": "tf_efficientdet_d3_ap-e4a2feab",
    "tf_efficientdet_d4": "tf_efficientdet_d4_ap-f601a5fc",
    "tf_efficientdet_d5": "tf_efficientdet_d5_ap-3673ae5d",
}


def _register(name: str, variant: Variant, config: Config, params: int) -> None:
    mean, std = (HALF, HALF) if variant.name.startswith("lite") else (IMAGENET_MEAN, IMAGENET_STD)
    metric, checkpoints = "", {}
    if name in COCO:
        file, ap = COCO[name]
        metric = f"AP {ap} COCO val2017"
        checkpoints["coco"] = Checkpoint(f"{RELEASE}{file}.pth", file[-8:], mean, std, metric)
    if name in ADVPROP:
        file = ADVPROP[name]
        checkpoints["coco-advprop"] = Checkpoint(f"{RELEASE}{file}.pth", file[-8:], HALF, HALF)
    if config.padding == "same":
        test_dev = f", {variant.test_dev} test-dev" if variant.test_dev else ""
        metric += f" (google/automl: {variant.val} val2017{test_dev})"
    info = ModelInfo(
        name=name,
        task="detection",
        image_size=(variant.side, variant.side),
        num_classes=90,
        params=params,
        gmacs=variant.gmacs,
        mean=mean,
        std=std,
        metric=metric,
        source=SOURCE,
        licence="Apache-2.0",
        checkpoints=checkpoints,
    )
    register_model(info)(partial(EfficientDet, config))


for _variant in VARIANTS:
    if _variant.symmetric_params is not None:
        _register(f"efficientdet_{_variant.name}", _variant, _variant.config, _variant.symmetric_params)
for _variant in VARIANTS:
    _register(f"tf_efficientdet_{_variant.name}", _variant, replace(_variant.config, padding="same"), _variant.params)

# The paper gives 81.74 % mIOU on Pascal VOC 2012 (21 classes) for this architecture, but no input size (512 is ours),
# no code and no weights.
register_model(
    ModelInfo(
        name="efficientdet_d4_seg",
        task="segmentation",
        image_size=(512, 512),
        num_classes=21,
        params=17_688_357,
        gmacs=12.18,
        source="EfficientDet paper, §5.2",
    )
)(partial(EfficientDetSegmentation, Config("b4", 128, 3, 3, levels=(2, 7), head_width=256)))
