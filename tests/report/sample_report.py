"""One run as the pipeline would report it: EfficientDet-D0 int8 with random weights, one gate failed."""

from __future__ import annotations

import math

from exporter.progress import StageTime
from exporter.verify.devices.facts import Latency, RealDevice
from exporter.verify.results import (
    CalibrationFacts,
    Codes,
    FileFacts,
    FloatOp,
    Gate,
    Measurements,
    OpTime,
    OutsideDelegate,
    Report,
    Snr,
    Verification,
)

OUTPUTS = [f"{head}_p{level}" for head in ("class", "box") for level in range(3, 8)]
DEVICE = "Intel(R) Xeon(R) Processor @ 2.60GHz (x86_64: avx2 avx512 avx512vnni)"
HOST = RealDevice(name="local", machine="x86_64", processor=DEVICE, cores=(0, 1, 2, 3))


def efficientdet() -> Report:
    """Ten outputs, all tables filled."""
    shipped = FileFacts(
        path="efficientdet_d0.tflite",
        precision="int8",
        size_bytes=4_571_236,
        sha256="c0ffee" + "7" * 58,
        ops={"CONV_2D": 301, "DEPTHWISE_CONV_2D": 182, "ADD": 58, "LOGISTIC": 63, "QUANTIZE": 1, "DEQUANTIZE": 10},
        integer_ops=602,
        border_ops=11,
        float_ops=(
            FloatOp(op="MUL", where="backbone.blocks.3.1.se", reason="island: SNR 9.1 dB in int8"),
            FloatOp(op="SOFTMAX", where="head|extra", reason="no int8 kernel for <axis 2> & rank 5"),
        ),
        transposes=0,
        partitions=2,
        outside_delegate=(
            OutsideDelegate(op="QUANTIZE", count=1, share=0.0041),
            OutsideDelegate(op="DEQUANTIZE", count=10, share=0.00237),
        ),
        outside_share=0.00647,
        top_ops=(
            OpTime(op="CONV_2D", count=301, share=0.6123),
            OpTime(op="DEPTHWISE_CONV_2D", count=182, share=0.2714),
            OpTime(op="LOGISTIC", count=63, share=0.0811),
        ),
        minimum_runtime="2.3.0",
    )
    twin = FileFacts(
        path="efficientdet_d0.tflite",
        precision="float32",
        size_bytes=15_731_004,
        sha256="f10a7" + "3" * 59,
        ops={"CONV_2D": 301, "DEPTHWISE_CONV_2D": 182, "ADD": 58, "LOGISTIC": 63},
        integer_ops=0,
        border_ops=0,
        partitions=1,
        outside_share=0.0,
    )
    found = Measurements(
        target="tflite",
        samples=16,
        runtime="ai-edge-litert 2.3.0 (xnnpack)",
        float_parity=(
            *(
                Snr(output=name, pooled=121.4 + i, median=120.6 + i, max_error=(i + 1) * 1.7e-6)
                for i, name in enumerate(OUTPUTS[:9])
            ),
            Snr(output=OUTPUTS[9], pooled=None, median=None, max_error=0.0),
        ),
        integer_parity=tuple(
            Codes(
                output=name,
                arithmetic="integer",
                equal=1.0 if i % 2 else 0.999871,
                max_lsb=1 - i % 2,
                count=16 * 810 * (i + 1),
            )
            for i, name in enumerate(OUTPUTS)
        ),
        int8_snr=tuple(
            Snr(output=name, pooled=31.8 - i, median=30.9 - i, max_error=0.214 + i / 10)
            for i, name in enumerate(OUTPUTS)
        ),
        latency={
            "int8": Latency(device=HOST, threads=1, median_ms=83.42, p90_ms=88.13, min_ms=81.07, runs=30),
            "float32": Latency(device=HOST, threads=1, median_ms=172.9, p90_ms=181.6, min_ms=169.4, runs=20),
        },
        files=(shipped, twin),
    )
    judged = Verification(
        samples=16,
        samples_note="16 pictures held out of calibration",
        targets=(found,),
        gates=(
            Gate(name="float SNR", family="accuracy", limit=">= 90 dB", value="121.4 dB", passed=True),
            Gate(name="integer codes equal", family="accuracy", limit=">= 99.9000%", value="99.9871%", passed=True),
            Gate(name="integer difference", family="accuracy", limit="<= 1 LSB", value="1 LSB", passed=True),
            Gate(name="int8 SNR", family="accuracy", limit=">= 25 dB", value="22.8 dB", passed=False),
            Gate(name="size", family="size", limit="<= 6 MB", value="4.57 MB", passed=True),
            Gate(name="int8 / float time", family="latency", limit="<= 0.6", value="0.48", passed=True),
        ),
        warnings=("output box_p7 has one code on every sample: it carries no information in int8",),
    )
    walls = {"build": 0.61, "capture": 7.93, "simplify": 1.42, "quantize": 21.7, "lower": 0.88, "verify": 19.4}
    return Report(
        model="efficientdet_d0",
        title="efficientdet_d0",
        precision="int8",
        io="float",
        targets=("tflite",),
        weights="random weights, seed 0, BatchNorm statistics refitted on the calibration pictures",
        random_weights=True,
        parameters=3_880_067,
        macs=2_544_000_000,
        input_shapes={"image": (1, 3, 512, 512)},
        output_shapes=dict.fromkeys(OUTPUTS, (1, 810, 64, 64)),
        calibration=CalibrationFacts(
            source="calib_data/photos",
            count=32,
            available=48,
            sha256="9b1d" + "e" * 60,
            method="mse",
            names=tuple(f"{i:03}.jpg" for i in range(32)),
        ),
        stages=tuple(
            StageTime(stage=name, wall_s=wall, cpu_s=wall * 1.25, peak_mb=412.0 + 97 * i)
            for i, (name, wall) in enumerate(walls.items())
        ),
        verification=judged,
        versions={"edge-export": "0.1.0", "torch": "2.13.0", "ai-edge-litert": "2.3.0"},
        processor=DEVICE,
        command="edge-export efficientdet_d0 --target tflite --int8",
    )


def changed(report: Report, **fields: object) -> Report:
    """`report` with other fields in its verification, or in what was measured on its one target."""
    assert report.verification is not None
    (target,) = report.verification.targets
    own = {name: value for name, value in fields.items() if name in Measurements.model_fields}
    whole = {name: value for name, value in fields.items() if name not in own}
    found = report.verification.model_copy(update={"targets": (target.model_copy(update=own),), **whole})
    return report.model_copy(update={"verification": found})


SILENT = Snr(output="silent", pooled=-math.inf, median=-math.inf, max_error=0.5)
"""An output that is all zero in PyTorch and not so in the file."""
