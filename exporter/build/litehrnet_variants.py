"""Lite-HRNet as data: each variant, registered for pose and, for the two lite ones, for segmentation.

Source: HRNet/Lite-HRNet README and configs (its own AP and PCKh); mmpose's model index (weights, their AP on COCO
val2017 with the person detector of AP 56.4, their PCKh on MPII val). Parameters for COCO were measured on the official
code, those for MPII on this one; GMACs count f_i0 of the fusion once, as this code and the README do.
"""

from __future__ import annotations

from functools import partial

from exporter.build.litehrnet import Config, LiteHRNet, LiteHRNetSegmentation
from exporter.build.registry import Checkpoint, ModelInfo, register_model

MMPOSE = "https://download.openmmlab.com/mmpose/top_down/litehrnet/"
SOURCE = "HRNet/Lite-HRNet; weights: open-mmlab/mmpose"

LITE_18 = Config("lite", (2, 4, 2), 40)
LITE_30 = Config("lite", (3, 8, 3), 40)
NAIVE_18 = Config("naive", (2, 4, 2), 30)
WIDER_NAIVE_18 = Config("naive", (2, 4, 2), 40)


# Model -> mmpose's file of its weights (before the date: the start of its sha256), and what they reach.
COCO = {
    "litehrnet_18": ("litehrnet18_coco_256x192-6bace359_20211230", 64.2),
    "litehrnet_18_coco_384x288": ("litehrnet18_coco_384x288-8d4dac48_20211230", 67.6),
    "litehrnet_30": ("litehrnet30_coco_256x192-4176555b_20210626", 67.6),
    "litehrnet_30_coco_384x288": ("litehrnet30_coco_384x288-a3aef5c4_20210626", 70.0),
}
MPII = {
    "litehrnet_18_mpii": ("litehrnet18_mpii_256x256-cabd7984_20210623", 85.9),
    "litehrnet_30_mpii": ("litehrnet30_mpii_256x256-faae8bd8_20210622", 86.9),
}


def _register(
    name: str, config: Config, size: tuple[int, int], joints: int, params: int, gmacs: float, official: float
) -> None:
    measure, data, files = ("AP", "COCO val2017", COCO) if joints == 17 else ("PCKh", "MPII val", MPII)
    checkpoints, metric = {}, f"{measure} {official} {data}"
    if name in files:
        file, reached = files[name]
        metric = f"{measure} {reached} {data} (Lite-HRNet: {official})"
        digits = file.rpartition("-")[2].partition("_")[0]
        checkpoints[data.split()[0].lower()] = Checkpoint(
            f"{MMPOSE}{file}.pth", digits, metric=f"{measure} {reached} {data}"
        )
    info = ModelInfo(
        name=name,
        task="pose",
        image_size=size,
        num_classes=joints,
        params=params,
        gmacs=gmacs,
        metric=metric,
        source=SOURCE,
        licence="Apache-2.0",
        checkpoints=checkpoints,
    )
    register_model(info)(partial(LiteHRNet, config))


# fmt: off
_register("litehrnet_18", LITE_18, (256, 192), 17, 1_130_769, 0.1986, 64.8)
_register("litehrnet_18_coco_384x288", LITE_18, (384, 288), 17, 1_130_769, 0.4468, 67.6)
_register("litehrnet_18_mpii", LITE_18, (256, 256), 16, 1_130_728, 0.2646, 85.4)
_register("litehrnet_30", LITE_30, (256, 192), 17, 1_763_717, 0.3095, 67.2)
_register("litehrnet_30_coco_384x288", LITE_30, (384, 288), 17, 1_763_717, 0.6960, 70.4)
_register("litehrnet_30_mpii", LITE_30, (256, 256), 16, 1_763_676, 0.4124, 87.0)
_register("naive_litehrnet_18", NAIVE_18, (256, 192), 17, 760_365, 0.1855, 62.8)
_register("naive_litehrnet_18_mpii", NAIVE_18, (256, 256), 16, 760_334, 0.2472, 85.3)
_register("wider_naive_litehrnet_18", WIDER_NAIVE_18, (256, 192), 17, 1_318_625, 0.3023, 66.0)
_register("wider_naive_litehrnet_18_mpii", WIDER_NAIVE_18, (256, 256), 16, 1_318_584, 0.4029, 86.8)
# fmt: on

# The authors name segmentation as a use and publish no head, code or weights for it: no official checkpoint is in this
# form. 19 classes are Cityscapes'; the input size is ours.
for _name, _config, _params, _gmacs in (("18", LITE_18, 1_130_851, 2.120), ("30", LITE_30, 1_763_799, 3.302)):
    register_model(
        ModelInfo(
            name=f"litehrnet_{_name}_segmentation",
            task="segmentation",
            image_size=(512, 1024),
            num_classes=19,
            params=_params,
            gmacs=_gmacs,
            source="HRNet/Lite-HRNet (backbone); a head of our own, without published weights",
            licence="Apache-2.0",
        )
    )(partial(LiteHRNetSegmentation, _config))
