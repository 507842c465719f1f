"""FasterNet's two forms of PConv, sizes, namings and labels. Expected figures: shared/reference/models.md §3."""

import hashlib
from dataclasses import replace

import pytest
import torch
from parity import image

from exporter.build import build_model, count, list_models, load_weights, model_info
from exporter.build.fasternet import VARIANTS, FasterNet, PartialConv
from exporter.errors import DataError, UsageError
from exporter.inputs import load_inputs
from exporter.recipe import load_recipe, read_labels

# Parameters, GMACs at 224 and entries of the state dict, measured on the official code.
MEASURED = {
    "t0": (3_905_500, "0.335", 131),
    "t1": (7_595_368, "0.851", 131),
    "t2": (14_982_888, "1.904", 131),
    "s": (31_181_032, "4.550", 171),
    "m": (53_521_464, "8.722", 251),
    "l": (93_465_192, "15.494", 251),
}
SIZES = list(MEASURED)
T0 = VARIANTS[0].config


@pytest.mark.parametrize("size", SIZES)
def test_parameters_macs_and_names_are_as_many_as_in_the_official_code(size):
    with torch.device("meta"):
        model = build_model(f"fasternet_{size}")
    parameters, macs = count(model, (224, 224))
    assert (parameters, f"{macs / 1e9:.3f}", len(model.state_dict())) == MEASURED[size]
    info = model_info(f"fasternet_{size}")
    assert (info.params, f"{info.gmacs:.3f}") == MEASURED[size][:2]


@torch.no_grad()
def test_both_forms_of_pconv_give_the_same_and_leave_their_input_alone():
    split, slicing = PartialConv(8, "split_cat"), PartialConv(8, "slicing")
    slicing.load_state_dict(split.state_dict())
    x = image(2, 8, 5, 6)
    before = x.clone()
    y = split(x)
    assert torch.equal(slicing(x), y)
    assert torch.equal(x, before)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert not torch.equal(y[:, :2], x[:, :2])


@torch.no_grad()
def test_the_classifier_of_both_forms_is_the_same():
    split = FasterNet(T0, (64, 64), 10).eval()
    slicing = FasterNet(replace(T0, form="slicing"), (64, 64), 10).eval()
    slicing.load_state_dict(split.state_dict())
    assert torch.equal(slicing(image(1, 3, 64, 64)), split(image(1, 3, 64, 64)))


def timm_name(name: str) -> str:
    """An official name in timm's naming: merging 2k - 1 is stages.k.downsample, stage 2k is stages.k."""
    name = name.replace("avgpool_pre_head.1.", "conv_head.")
    if name.startswith("head."):
        return "classifier." + name[5:]
    if name.startswith("stages."):
        _, index, rest = name.split(".", 2)
        return f"stages.{(int(index) + 1) // 2}.{'downsample.' * (int(index) % 2)}{rest}"
    return name


@pytest.mark.parametrize("size", ["t0", "s"])
def test_weights_in_timms_naming_load(size):
    model = build_model(f"fasternet_{size}", 64)
    state = {name: t + 0.5 if t.is_floating_point() else t for name, t in model.state_dict().items()}
    named = {timm_name(name): tensor for name, tensor in state.items()}
    assert {"stages.1.downsample.reduction.weight", "stages.3.blocks.0.mlp.0.weight", "conv_head.weight"} <= set(named)
    load_weights(model, named)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_timm_checkpoint_that_does_not_fit_is_told_in_its_own_names():
    state = {timm_name(name): t for name, t in build_model("fasternet_t0", 64, num_classes=7).state_dict().items()}
    with pytest.raises(DataError, match="--num-classes 7") as caught:
        load_weights(build_model("fasternet_t0", 64), state)
    assert "shape       classifier.weight  [7, 1280], not [1000, 1280]" in str(caught.value)


def test_timm_weights_of_another_size_are_recognised():
    state = {timm_name(name): t for name, t in build_model("fasternet_t1", 64).state_dict().items()}
    with pytest.raises(DataError, match="belong to: fasternet_t1"):
        load_weights(build_model("fasternet_t0", 64), state)


@torch.no_grad()
def test_features_are_the_normalised_outputs_of_the_four_stages():
    model = build_model("fasternet_t0_features", (96, 64))
    stages = []
    for index in range(0, 7, 2):
        model.stages[index].register_forward_hook(lambda module, inputs, output: stages.append(output))
    features = model(image(1, 3, 96, 64))
    assert model.output_names == ("c2", "c3", "c4", "c5")
    assert [tuple(x.shape) for x in features] == [(1, 40, 24, 16), (1, 80, 12, 8), (1, 160, 6, 4), (1, 320, 3, 2)]
    for index, (stage, feature) in enumerate(zip(stages, features, strict=True)):
        torch.testing.assert_close(model.get_submodule(f"norm{2 * index}")(stage), feature)


def test_a_detectors_checkpoint_loads_into_its_backbone_and_a_classifiers_is_refused():
    model = build_model("fasternet_s_features", 64)
    state = {name: t + 0.5 if t.is_floating_point() else t for name, t in model.state_dict().items()}
    detector = {f"backbone.{name}": tensor for name, tensor in state.items()}
    load_weights(model, {"meta": {}, "state_dict": {**detector, "neck.lateral_convs.0.conv.weight": torch.zeros(3)}})
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(DataError, match="belong to: fasternet_s\n") as caught:
        load_weights(model, build_model("fasternet_s", 64).state_dict())
    assert "missing     norm0.weight" in str(caught.value)


@pytest.mark.parametrize("name", ["fasternet_t0", "fasternet_t0_features"])
def test_a_picture_smaller_than_one_cell_of_the_last_stage_is_refused(name):
    build_model(name, (32, 50))
    with pytest.raises(UsageError, match="image_size is 31x64"):
        build_model(name, (31, 64))


def test_every_size_is_a_classifier_and_a_backbone():
    names = {info.name for info in list_models() if info.name.startswith("fasternet")}
    assert names == {f"fasternet_{size}{form}" for size in SIZES for form in ("", "_features")}


@pytest.mark.parametrize("size", SIZES)
def test_the_recipe_preprocesses_as_published_and_labels_imagenets_classes(size):
    recipe = load_recipe(f"fasternet_{size}", weights="random")
    assert (recipe.model, recipe.preprocess.size, recipe.preprocess.resize) == (f"fasternet_{size}", (224, 224), "crop")
    assert (recipe.preprocess.crop_fraction, recipe.preprocess.interpolation) == (0.9, "bicubic")
    labels = read_labels(recipe)
    assert len(labels) == len(set(labels)) == 1000
    assert (labels[0], labels[1], labels[999]) == ("tench", "goldfish", "toilet tissue")
    assert (labels[207], labels[281], labels[817], labels[954]) == ("golden retriever", "tabby", "sports car", "banana")


RELEASE_FILE = "fasternet_t0-epoch.281-val_acc1.71.9180.pth"


def test_weights_without_a_published_digest_are_named_unverified_with_the_digest_they_have(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    torch.save(build_model("fasternet_t0").state_dict(), tmp_path / RELEASE_FILE)
    inputs = load_inputs(load_recipe("fasternet_t0", weights="imagenet"))
    digest = hashlib.sha256((tmp_path / RELEASE_FILE).read_bytes()).hexdigest()
    assert inputs.weights_sha256 == digest
    assert "NOT VERIFIED" in inputs.weights
    assert digest in inputs.weights
    assert not inputs.random_weights


def test_an_unverified_download_that_does_not_load_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    (tmp_path / RELEASE_FILE).write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(DataError, match="web page"):
        load_inputs(load_recipe("fasternet_t0", weights="imagenet"))
    assert list(tmp_path.iterdir()) == []
