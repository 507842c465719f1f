"""The repair ladder on weights that were spoiled on purpose: the same float function, and int8 in ruins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from benchmarks.demo import labelled
from exporter import build_model, export, load_recipe, load_weights
from exporter.cli import app
from exporter.recipe import recipes_dir

CHANNEL, FACTOR, PICTURES = 0, 64, 400
SPOILED = "stages.0.blocks.0.far"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the demo weights of CSPPeleeNet ask of a recipe, on more labelled pictures: one of its 48 is 2 points."""
    asked = yaml.safe_load((recipes_dir() / "demo" / "csppeleenet.yaml").read_text())
    source = labelled("classification", "evaluation", PICTURES, tmp_path_factory.mktemp("scenes") / "set")
    evaluation = {"source": str(source), "brief": True}
    return load_recipe("csppeleenet").model_dump(include=asked.keys()) | {"evaluation": evaluation}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Path:
    """One channel's BatchNorm times 64, what reads it divided by 64; leaky ReLU between lets scales through."""
    module = build_model("csppeleenet", settings["preprocess"]["size"], settings["num_classes"])
    load_weights(module, recipes_dir() / "demo" / "csppeleenet.safetensors")
    picture = torch.rand(1, 3, *settings["preprocess"]["size"])
    before = module(picture)
    first, second = (module.get_submodule(f"{SPOILED}.{i}") for i in (0, 1))
    first.bn.weight[CHANNEL] *= FACTOR
    first.bn.bias[CHANNEL] *= FACTOR
    second.conv.weight[:, CHANNEL] /= FACTOR
    torch.testing.assert_close(module(picture), before, rtol=1e-4, atol=1e-4)
    path = tmp_path_factory.mktemp("weights") / "spoiled.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)
    return path


@pytest.mark.slow
def test_the_ladder_repairs_spoiled_weights(spoiled: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    recipe = load_recipe("csppeleenet", weights=str(spoiled), precision="int8", quantize={"max_drop": 0.01}, **settings)
    found = export(recipe, out=tmp_path / "out", check=False).report.verification
    assert found is not None
    start, *tries = found.repair
    assert start.drop is not None
    assert start.drop > 0.05, "the weights are not spoiled enough to need a repair"
    equalised = next(rung for rung in tries if rung.name == "equalisation")
    assert equalised.kept
    assert equalised.drop is not None
    assert equalised.drop <= 0.01
    assert equalised.integer_macs == 1.0


@pytest.mark.slow
def test_a_plan_of_an_equalised_model_gives_the_same_file_again(
    spoiled: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    recipe = load_recipe("csppeleenet", weights=str(spoiled), precision="int8", quantize={"max_drop": 0.02}, **settings)
    export(recipe, out=tmp_path / "repaired", check=False)
    plan = tmp_path / "repaired" / "plan.json"
    assert json.loads(plan.read_text())["equalization"]
    again = recipe.model_copy(update={"quantize": recipe.quantize.model_copy(update={"max_drop": None})})
    export(again, out=tmp_path / "again", plan=plan, check=False)
    files = [(tmp_path / name / "csppeleenet.tflite").read_bytes() for name in ("repaired", "again")]
    assert files[0] == files[1]
    result = CliRunner().invoke(app, ["diagnose", str(tmp_path / "repaired"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layers"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["fasternet_t1", "--int8", "--max-drop", "0.01"], "--eval"), (["fasternet_t0", "--max-drop", "0.01"], "--int8")],
    ids=["no labelled pictures", "float"],
)
def test_max_drop_needs_what_it_judges_on(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(app, ["export", *arguments])
    assert result.exit_code != 0
    assert why in str(result.exception)
