"""A graph with a float tail in two parts, and how the whole verification uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity import Function, image, lower
from small_detector import SIZE, make
from torch import Tensor, nn

from exporter.build.postprocess import Decoded, Detections, float_tail
from exporter.capture import capture
from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.ir.tail import body, tail
from exporter.lower.facts import Facts
from exporter.lower.tflite import TFLite
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.recipe import Gates
from exporter.simplify import simplify
from exporter.verify.comparison import Artifact
from exporter.verify.results import Verification
from exporter.verify.target import TargetFiles
from exporter.verify.tflite import file_facts
from exporter.verify.verify import verify

X = image(1, 3, SIZE, SIZE)


def captured(module: nn.Module, *, int8: bool = True) -> Graph:
    names = getattr(module, "output_names", ())
    graph = simplify(capture(module, (X,), output_names=names))
    if int8:
        quantize(graph, calibrate(graph, [(X,)], "minmax"))
    return graph


def test_the_body_ends_at_the_heads_in_codes():
    graph = captured(Decoded(make()))
    alone = body(graph, ("class", "box"))
    assert alone.output_names == ["class", "box"]
    assert [v.quant.dtype for v in alone.outputs] == ["int8", "int8"]
    assert not alone.tail()
    assert {node.op.name for node in alone.nodes} == {"quantize", "conv2d"}
    assert len(graph.tail()) > 10, "the graph itself is left alone"


def test_heads_without_fitting_names_keep_those_of_their_values():
    graph = captured(Decoded(make()))
    assert body(graph, ("one",)).output_names == [v.name for v in body(graph).outputs]


def test_the_bodys_file_gives_the_codes_that_the_whole_graph_computes():
    graph = captured(Decoded(make()))
    alone, seen = body(graph), {}
    Interpreter(graph).run((X,), lambda value, tensor: seen.update({value.name: tensor}))
    for value, theirs in zip(alone.outputs, lower(alone, [X]).outputs, strict=True):
        assert torch.equal(seen[value.name], theirs)


@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float"])
def test_the_tail_continues_where_the_body_ends(int8):
    graph = captured(Decoded(make()), int8=int8)
    behind = tail(graph)
    assert behind.output_names == ["boxes", "scores"]
    assert [v.shape for v in behind.inputs] == [v.shape for v in body(graph).outputs]
    heads = Interpreter(body(graph)).run((X,))
    for ours, whole in zip(Interpreter(behind).run(heads), Interpreter(graph).run((X,)), strict=True):
        assert torch.equal(ours, whole)


# --- verification -----------------------------------------------------------------------------------------------------
def verified(module: nn.Module, folder: Path, precision: str) -> Verification:
    graph = captured(module, int8=precision == "int8")
    files = {"whole": graph, "body": body(graph, ("class", "box"))}
    for name, part in files.items():
        TFLite().write(part, folder / f"{name}.tflite", Facts(name, precision))
    whole, heads = (Artifact(folder / f"{name}.tflite", part, precision) for name, part in files.items())
    samples = [(image(1, 3, SIZE, SIZE, seed=seed),) for seed in (1, 2)]
    files = TargetFiles("tflite", (whole,), None if precision == "float32" else heads)
    return verify(module, [files], samples, Gates())


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_reduced_body_is_compared_at_the_heads_and_its_tail_with_the_interpreter(precision, tmp_path):
    found = verified(Decoded(make()), tmp_path, precision)
    against_pytorch = found.targets[0].int8_snr if precision == "int8" else found.targets[0].float_parity
    assert [row.output for row in against_pytorch] == ["class", "box", "boxes", "scores"]
    assert [row.output for row in found.targets[0].integer_parity] == (["class", "box"] if precision == "int8" else [])
    assert all((row.equal, row.max_lsb) == (1.0, 0) for row in found.targets[0].integer_parity)
    assert [row.output for row in found.targets[0].tail_parity] == ["boxes", "scores"]
    assert all(row.pooled is None or row.pooled > 110 for row in found.targets[0].tail_parity)


def test_detections_are_compared_with_the_interpreter_and_with_pytorch(tmp_path):
    found = verified(Detections(make(), 0.3), tmp_path, "int8")
    same, similar = found.targets[0].detections
    assert (same.reference, same.share) == ("interpreter", 1.0)
    assert same.expected > 5
    assert similar.reference == "PyTorch"
    assert similar.share > 0.5
    assert found.targets[0].tail_parity == ()
    (against_pytorch,) = verified(Detections(make(), 0.3), tmp_path, "float32").targets[0].detections
    assert (against_pytorch.reference, against_pytorch.share) == ("PyTorch", 1.0)


def test_pictures_without_a_detection_are_said_to_prove_nothing(tmp_path):
    found = verified(Detections(make(), 0.999), tmp_path, "int8")
    assert any("no picture holds a detection" in text for text in found.warnings)
    assert not any(gate.name.endswith("detections of interpreter") for gate in found.gates)


@pytest.mark.parametrize("ending", [Decoded, Detections])
def test_a_file_whose_anchors_are_wrong_fails(ending, tmp_path):
    """Its heads are right, code by code: the tail's own comparison finds it."""
    module = ending(make())
    graph = captured(module)
    moved = captured(module)
    for value in moved.values():
        if value.const is not None and value.shape in ((36, 4), (36, 2)):
            value.const = value.const * 1.02
    TFLite().write(moved, tmp_path / "whole.tflite", Facts("whole", "int8"))
    TFLite().write(body(graph), tmp_path / "body.tflite", Facts("body", "int8"))
    whole, heads = (
        Artifact(tmp_path / "whole.tflite", graph, "int8"),
        Artifact(tmp_path / "body.tflite", body(graph), "int8"),
    )
    found = verify(module, [TargetFiles("tflite", (whole,), heads)], [(X,)], Gates())
    assert all((row.equal, row.max_lsb) == (1.0, 0) for row in found.targets[0].integer_parity)
    failed = [gate.name for gate in found.gates if not gate.passed]
    assert failed == ["float tail SNR" if ending is Decoded else "int8 detections of interpreter"]


# --- what counts as the tail ------------------------------------------------------------------------------------------
def facts(model: nn.Module, folder: Path):
    graph = simplify(capture(model, (X,)))
    _, islands = quantize(graph, calibrate(graph, [(X,)], "minmax"))
    TFLite().write(graph, folder / "m.tflite", Facts("m", "int8"))
    return file_facts(folder / "m.tflite", graph, "int8", islands)


def test_the_declared_tail_is_no_damage(tmp_path):
    found = facts(Decoded(make()), tmp_path)
    assert (found.integer_share, found.float_ops) == (1.0, ())
    assert (found.border_ops, found.integer_ops) == (3, 3)
    assert found.tail_ops == found.total_ops - 6


def test_another_float_part_is_still_found(tmp_path):
    def model(x: Tensor) -> Tensor:
        x = x.relu()
        x = x / (x + 1.0)  # int8 division stays float: an island in the body
        return float_tail(x.tanh()).exp()

    found = facts(Function(model), tmp_path)
    assert [op.op for op in found.float_ops] == ["DEQUANTIZE", "DEQUANTIZE", "DIV", "QUANTIZE"]
    assert found.tail_ops == 1
    assert found.integer_share == pytest.approx(3 / 7)
