"""The released networks as data: one row per backbone stage, registered as classifiers and detectors.

Source: `cfg/` and README of WongKinYiu/CrossStagePartialNetworks. Parameters and GMACs were measured on this
implementation; they equal those counted from the cfg files. The authors keep their weights on Google Drive and give no
licence for them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from exporter.build.darknet import Classifier, Config, Stage
from exporter.build.panet import PANetSPP
from exporter.build.registry import ModelInfo, register_model
from exporter.build.yolo import CLASSIC, OPTIMAL

SOURCE = "WongKinYiu/CrossStagePartialNetworks (darknet); .weights files: the Google Drive links of its README"
LICENCE = "not stated by the authors"

RESNET = Config(
    (
        Stage(0, 128, 64, 64, 3, 128),
        Stage(128, 256, 256, 128, 3, 256, slope=1),
        Stage(256, 512, 512, 256, 5, 512, slope=1),
        Stage(512, 1024, 1024, 512, 2, 1024),
    ),
    bottleneck=True,
)
RESNEXT = Config(
    (
        Stage(0, 128, 64, 128, 3, 256),
        Stage(256, 256, 256, 256, 3, 512, slope=1),
        Stage(512, 512, 512, 512, 5, 1024, slope=1),
        Stage(1024, 1024, 1024, 1024, 2, 2048),
    ),
    bottleneck=True,
    groups=32,
)
DARKNET53 = Config(
    (
        Stage(64, 64, 64, 32, 1, 64),
        Stage(128, 64, 64, 64, 2, 128),
        Stage(256, 128, 128, 128, 8, 256),
        Stage(512, 256, 256, 256, 8, 512),
        Stage(1024, 512, 512, 512, 4, 1024),
    ),
    bottleneck=False,
)

# Name, backbone, parameters, GMACs at 256, top-1 in percent on ImageNet as published.
CLASSIFIERS = (
    ("csresnet50", RESNET, 21_607_848, 4.484, 76.6),
    ("csresnext50", RESNEXT, 20_557_480, 3.965, 77.9),
    ("csdarknet53", DARKNET53, 27_642_184, 6.534, 77.2),
    ("csresnet50_elastic", replace(RESNET, elastic=True), 29_848_360, 4.681, 76.8),
    ("csresnext50_elastic", replace(RESNEXT, elastic=True), 16_916_264, 2.723, 77.2),
    ("csdarknet53_elastic", replace(DARKNET53, elastic=True), 19_081_608, 3.87, 76.1),
)

# Name, backbone, YOLO layers, side, parameters, GMACs, AP in percent on COCO test-dev at 512 as published.
DETECTORS = (
    ("csresnet50_panet_spp", RESNET, CLASSIC, 416, 58_328_765, 24.64, 38.0),
    ("csresnext50_panet_spp", RESNEXT, CLASSIC, 416, 56_942_525, 23.53, 38.0),
    ("csresnext50_panet_spp_optimal", RESNEXT, OPTIMAL, 512, 56_942_525, 35.65, 42.4),
    ("csdarknet53_panet_spp", DARKNET53, CLASSIC, 416, 64_363_101, 30.05, 38.7),
)

for _name, _backbone, _params, _gmacs, _top1 in CLASSIFIERS:
    register_model(
        ModelInfo(
            name=_name,
            task="classification",
            image_size=(256, 256),
            num_classes=1000,
            params=_params,
            gmacs=_gmacs,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            metric=f"top-1 {_top1} ImageNet",
            source=SOURCE,
            licence=LICENCE,
        )
    )(partial(Classifier, _backbone))

for _name, _backbone, _head, _side, _params, _gmacs, _ap in DETECTORS:
    register_model(
        ModelInfo(
            name=_name,
            task="detection",
            image_size=(_side, _side),
            num_classes=80,
            params=_params,
            gmacs=_gmacs,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            metric=f"AP {_ap} COCO test-dev (at 512)",
            source=SOURCE,
            licence=LICENCE,
        )
    )(partial(PANetSPP, _backbone, _head))
