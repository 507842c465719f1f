"""What is float16, what is float32, and where the int8 weights lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coreml_files import listing, load, specification, written
from parity import image, simplified, snr
from parity_coreml import run_coreml
from PIL import Image
from torch import nn

from exporter.lower.coreml import CoreML
from exporter.lower.coreml.names import names, normalised
from exporter.lower.coreml.precision import float_types
from exporter.lower.coreml.weights import per_channel
from exporter.lower.facts import Facts
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.preprocess import Preprocess
from exporter.verify.runtimes.mil_reference import MilReference

NET = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6(), nn.Flatten(),
                    nn.Linear(128, 5))  # fmt: skip
X = image(1, 3, 8, 8)


def types(graph) -> dict[str, str]:
    """Op -> float type."""
    return {node.op.name: kind for node, kind in float_types(graph, "float16").items()}


def test_a_float16_program_is_float32_outside_alone():
    graph = simplified(NET, X)
    with written(graph, "float16") as path:
        program = load(path).functions["main"]
        results = [(o.op_type, o.outputs[0].dtype.__name__) for o in program.operations if o.op_type != "const"]
    assert (results[0], results[-1]) == (("cast", "fp16"), ("cast", "fp32"))
    assert {dtype for _, dtype in results[:-1]} == {"fp16"}


def test_an_int8_program_reads_and_gives_float32_without_a_rounding_between():
    graph = simplified(NET, X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="float")
    with written(graph, "int8") as path:
        _, *operations, _ = listing(specification(path).mlProgram, path / "Data/com.apple.CoreML/weights")
    assert "cast" not in [kind for kind, *_ in operations]
    assert (operations[0][0], operations[-1][0]) == ("quantize", "dequantize")
    assert ["FLOAT32" in o[1]["scale"][0][0] for o in (operations[0], operations[1], operations[-1])] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("min_os", [16, 18])
def test_weights_alone_as_int8(min_os):
    graph = simplified(NET, X)
    expected = NET(X).detach()
    with written(graph, "weights-int8", min_os) as path:
        load(path)
        (found,) = MilReference(path).run([X.numpy()]).values()
        size = (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    with written(graph, "float16") as path:
        assert size < (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert snr(torch.from_numpy(found), expected) > 35


def test_int8_weights_are_the_nearest_codes_of_a_float16_scale():
    weight = image(6, 4, 3, 3).numpy() * np.logspace(-6, 3, 6, dtype=np.float32).reshape(-1, 1, 1, 1)
    codes, params = per_channel(weight, 0)
    scale = np.array(params.scale, np.float16).astype(np.float32)
    assert scale.tolist() == list(params.scale)
    assert np.abs(codes).max() <= 127
    error = np.abs(codes * scale.reshape(-1, 1, 1, 1) - weight).max((1, 2, 3))
    assert (error <= scale / 2 * 1.001).all()


def test_the_float_tail_is_float32():
    from exporter.build.postprocess import float_tail

    def model(x):
        return float_tail(F.relu(x)) * 640.0 + 0.25

    graph = simplified(model, X)
    assert types(graph) == {"relu": "float16", "float_tail": "float32", "mul": "float32", "add": "float32"}


NUMBERS = {
    "a constant": lambda x: x + 1e6,
    "a bound": lambda x: x.clamp(min=-1e9, max=0),
    "a constant that vanishes": lambda x: torch.maximum(x * x, torch.tensor(1e-12)).rsqrt() * x,
    "an epsilon": nn.LayerNorm(8, eps=1e-12),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_float16_has_not_are_float32(case):
    graph = simplified(NUMBERS[case], X)
    with torch.no_grad():
        expected = NUMBERS[case](X)
    assert "float32" in types(graph).values()
    (found,) = run_coreml(graph, [X], "float16")
    assert torch.isfinite(found).all()
    assert snr(found, expected) > 50


def test_one_small_number_among_others_is_no_reason():
    assert types(simplified(lambda x: x + torch.linspace(0, 1, 8) ** 9, X)) == {"add": "float16"}


def test_float32_ends_at_the_next_convolution():
    conv = nn.Conv2d(3, 4, 1)
    graph = simplified(lambda x: conv(torch.maximum(x, torch.tensor(1e-12)).sqrt()).relu(), X)
    assert types(graph) == {"maximum": "float32", "sqrt": "float32", "conv2d": "float16"}


def test_a_picture_is_normalised_to_the_last_bit(tmp_path):
    """8-bit pixels in, and behind the normalisation the same float32 numbers that calibration saw."""
    preprocess = Preprocess(size=(8, 8))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    wanted = preprocess.apply(Image.fromarray(pixels))
    graph = simplified(nn.Conv2d(3, 4, 3), X)
    path: Path = tmp_path / "net.mlpackage"
    CoreML().write(graph, path, Facts("net", "float16", mean=preprocess.mean, std=preprocess.std))
    load(path)
    name = names(graph)[normalised(graph.inputs[0].name)]
    reference = MilReference(path)
    found = reference.run_forced({graph.inputs[0].name: pixels}, {name: np.zeros((1, 3, 8, 8), np.float32)})
    assert np.array_equal(found[name][0], wanted.numpy())


@pytest.mark.parametrize("precision", ["float32", "float16", "weights-int8", "int8"])
def test_the_same_bytes_on_every_run(precision, tmp_path):
    graph = simplified(NET, X)
    if precision == "int8":
        quantize(graph, calibrate(graph, [(X,)], "minmax"), io="float")
    contents = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.mlpackage"
        CoreML().write(graph.clone(), path, Facts("net", precision))
        files = sorted(f for f in path.rglob("*") if f.is_file())
        contents.append([(str(f.relative_to(path)), f.read_bytes()) for f in files])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3


def test_equal_constants_are_stored_once():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    graph = simplified(lambda x: conv(conv(conv(x))), image(1, 4, 8, 8))
    with written(graph, "float32") as path:
        stored = (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert stored < 2 * conv.weight.numel() * 4


def test_equal_codes_of_other_parameters_are_other_constants():
    graph = simplified(lambda x: (x * torch.tensor([[1.0, 2.0]])).sigmoid() * torch.tensor([[2.0, 3.0]]), image(1, 2))
    quantize(graph, calibrate(graph, [(image(1, 2),)], "minmax"), io="float")
    constants = [n.inputs[1] for n in graph.nodes if n.op.name == "mul"]
    for value, zero_point in zip(constants, (5, -7), strict=True):
        value.const = torch.tensor([[1, 2]], dtype=torch.int8)
        value.quant = replace(constants[0].quant, zero_point=zero_point)
    for min_os in (17, 18):
        with written(graph, "int8", min_os, arithmetic="float32") as path:
            program = MilReference(path).program
        reals = [program.constants[names(graph)[v.name]] for v in constants]
        assert all(torch.equal(real, v.quant.dequantize(v.const)) for real, v in zip(reals, constants, strict=True))


@pytest.mark.parametrize("min_os", [17, 18])
def test_a_picture_becomes_the_codes_that_the_interpreter_reads(min_os):
    """Normalised and quantised in float32: no float16 stands between the pixels and their codes."""
    preprocess = Preprocess(size=(8, 8))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    x = preprocess.apply(Image.fromarray(pixels))[None]
    graph = simplified(NET, X)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io="float")
    codes = graph.nodes[0].output
    assert codes.quant is not None
    wanted, name = codes.quant.quantize(x), names(graph)[codes.name]
    with written(graph, "int8", min_os, mean=preprocess.mean, std=preprocess.std) as path:
        load(path)
        found = MilReference(path).run_forced({graph.inputs[0].name: pixels}, {name: np.zeros_like(wanted.numpy())})
    assert np.array_equal(found[name], wanted.numpy())
