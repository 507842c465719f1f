"""`--keep-float`: what it names, the islands that come of it, and the files of all three formats."""

from __future__ import annotations

import pytest
import torch
from parity import image, simplified
from torch import Tensor, nn

from exporter.errors import UsageError
from exporter.ir.macs import integer_macs
from exporter.ir.run import Interpreter
from exporter.pipeline import Pipeline
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.keep_float import KEPT, kept_float
from exporter.recipe import make_recipe

X = image(1, 3, 16, 16)


class Block(nn.Module):
    """Squeeze and excitation around two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.act(self.first(x)))
        return x + y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.blocks, self.head = (
            nn.Conv2d(3, 8, 3),
            nn.Sequential(Block(), Block(), Block()),
            nn.Linear(8, 4),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image).relu()).mean((2, 3)))


def int8(*globs: str, model: nn.Module | None = None, io: str = "float"):
    graph = simplified(model or Net(), X)
    ranges = calibrate(graph, [(X,)], "minmax")
    return graph, *quantize(graph, ranges, io=io, keep_float=globs)


def ops(graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


# --- what a glob names ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("glob", "modules"),
    [
        ("blocks.1.first", {"blocks.1.first"}),
        ("blocks.1.*", {"blocks.1.first", "blocks.1.act", "blocks.1.second", "blocks.1.gate"}),
        ("blocks.1", {"blocks.1"}),
        ("blocks.1*", {"blocks.1", "blocks.1.first", "blocks.1.act", "blocks.1.second", "blocks.1.gate"}),
        ("*.gate", {"blocks.0.gate", "blocks.1.gate", "blocks.2.gate"}),
    ],
)
def test_a_glob_names_module_paths(glob, modules):
    found = kept_float(simplified(Net(), X), [glob])
    assert {node.source.module for node in found} == modules
    assert set(found.values()) == {f"{KEPT}{glob}"}


def test_a_glob_names_single_values():
    graph = simplified(Net(), X)
    (node,) = (n for n in graph.nodes if n.op.name == "sigmoid" and n.source.module == "blocks.2")
    assert list(kept_float(graph, [node.output.name])) == [node]


def test_a_glob_that_names_nothing_is_an_error_with_the_nearest_path():
    with pytest.raises(UsageError, match=r"'blocks\.1\.frist'") as caught:
        kept_float(simplified(Net(), X), ["blocks.*", "blocks.1.frist"])
    assert "did you mean blocks.1.first?" in str(caught.value)


# --- islands ----------------------------------------------------------------------------------------------------------
def test_neighbours_share_one_pair_of_conversions():
    graph, _, islands = int8("blocks.1*", io="int8")
    assert (ops(graph).count("dequantize"), ops(graph).count("quantize")) == (1, 1)
    assert len(islands) == len([n for n in simplified(Net(), X).nodes if n.source.module.startswith("blocks.1")])
    assert "silu" in ops(graph)  # as the user wrote it, not its int8 form


def test_what_is_kept_gains():
    class Features(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.blocks(self.stem(image).relu())

    expected = Features()(X).detach()
    errors = [
        float((expected - Interpreter(int8(*globs, model=Features())[0]).run([X])[0]).square().sum())
        for globs in ((), ("blocks.[12]*",), ("*",))
    ]
    assert errors[0] > 2 * errors[1]
    assert errors[2] < 1e-9 * float(expected.square().sum())


def test_float_inputs_and_outputs_reach_an_island_as_they_are():
    graph, _, _ = int8("stem", "head")
    assert ops(graph)[-1] == "linear"
    (stem,) = (n for n in graph.nodes if n.source.module == "stem" and n.op.name == "conv2d")
    assert stem.inputs == [graph.inputs[0], *stem.inputs[1:]]


def test_a_plan_knows_its_values_with_and_without_an_island():
    _, plan, _ = int8()
    graph = simplified(Net(), X)
    again, _ = quantize(graph, None, plan, keep_float=["blocks.1*"])
    assert again == plan
    assert ops(graph).count("quantize") == 2


def test_an_op_without_int8_joins_its_neighbours():
    class Divides(Net):
        def forward(self, image: Tensor) -> Tensor:
            x = self.stem(image).relu()
            return self.blocks(x / (x.mean((2, 3), keepdim=True) + 1))

    graph, _, islands = int8("stem", model=Divides(), io="int8")
    assert sorted({reason.split(":")[0] for reason in islands.values()}) == [
        "int8 division overflows near zero divisors in the runtime",
        "kept float",
    ]
    assert ops(graph)[:4] == ["dequantize", "conv2d", "quantize", "mean"]
    assert ops(graph)[4:8] == ["add", "dequantize", "div", "quantize"]


def test_the_share_of_macs_that_work_on_integers():
    whole, part = (integer_macs(int8(*globs)[0]) for globs in ((), ("blocks.1.first",)))
    macs = 8 * 8 * 9 * 14 * 14
    assert whole == 1.0
    assert part == pytest.approx(1 - macs / (6 * macs + 8 * 3 * 9 * 14 * 14 + 3 * 64 + 32))


# --- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("globs", [("blocks.1*",), ("stem", "blocks.0.second"), ("head", "*.act")], ids=" ".join)
def test_every_format_writes_the_islands_and_its_gates_hold(globs, tmp_path):
    recipe = make_recipe(
        {
            "model": "net",
            "targets": "all",
            "precision": "int8",
            "preprocess": {"size": (16, 16)},
            "quantize": {"keep_float": globs},
        },
        "net",
    )
    pipeline = Pipeline(recipe)
    pipeline.module, pipeline.example = Net().eval(), (X,)
    pipeline.run(tmp_path / "out")
    found = pipeline.verification
    assert [gate.label for gate in found.gates if not gate.passed] == []
    assert found.integer_macs == integer_macs(pipeline.lowered) < 1
    for target in found.targets:
        (file,) = (f for f in target.files if f.precision == "int8")
        assert file.integer_share < 1
        assert file.as_asked_share == 1
        assert all(op.asked for op in file.float_ops)
    told = (tmp_path / "out" / "report.md").read_text()
    assert f"kept float: {globs[0]}" in told.replace("\\", "")
    assert "of the MACs" in told


class Deep(Net):
    """Behind its first convolution float kernels that round apart would flip codes all the way to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(6)))

    def forward(self, image: Tensor) -> Tensor:
        return self.blocks(self.stem(image).relu())


def test_behind_an_island_every_code_is_the_interpreters(tmp_path):
    recipe = make_recipe(
        {
            "model": "deep",
            "precision": "int8",
            "preprocess": {"size": (64, 64)},
            "calibration": {"limit": 8},
            "quantize": {"keep_float": ["blocks.0*", "blocks.3.second"]},
        },
        "deep",
    )
    pipeline = Pipeline(recipe)
    pipeline.module, pipeline.example = Deep().eval(), (torch.zeros(1, 3, 64, 64),)
    pipeline.run(tmp_path / "out")
    rows = {row.output: row for row in pipeline.verification.targets[0].integer_parity}
    assert (rows["output"].equal, rows["output"].max_lsb) == (1.0, 0)
    assert rows["float islands x2"].equal > 0.999
    assert rows["float islands x2"].max_lsb <= 1


class Split(nn.Module):
    """A sum that is read in float, by ops that only move it, and in int8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.end = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1)
        self.sum, self.move = Sum(), Move()

    def forward(self, image: Tensor) -> Tensor:
        y = self.sum(self.stem(image))
        return self.side(y) + self.end(self.move(y))


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x.relu()


class Move(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :4]


def test_moved_parts_of_a_value_at_an_islands_end_have_its_range():
    torch.manual_seed(0)
    graph, _, islands = int8("sum", "move", model=Split())
    at_end = {
        node.inputs[0].producer.op.name: node.output.quant
        for node in graph.nodes
        if node.op.name == "quantize" and node.inputs[0] not in graph.inputs
    }
    assert at_end["slice"] == at_end["add"]
    assert len(islands) >= 2
