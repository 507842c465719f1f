"""Checkpoints good and bad, through real files."""

import argparse
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from exporter.build import build_model, load_weights, refit_batchnorm
from exporter.errors import DataError

NAME = "tf_efficientdet_lite0"
PEERS = Path(__file__).resolve().parents[2].parent / "shared" / "peers"


@pytest.fixture(scope="module")
def state():
    """A full official-looking state dict, all values different from the freshly built model's."""
    return {n: t + 0.5 if t.is_floating_point() else t for n, t in build_model(NAME, 64).state_dict().items()}


@pytest.fixture
def model():
    return build_model(NAME, 64)


def assert_loaded(model, state):
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def error_of(model, source) -> str:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_weights(model, source)
    assert_loaded(model, before)  # all or nothing
    return str(caught.value)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_wrappers_and_prefixes_are_taken_off(model, state, wrapper, prefix):
    named = {prefix + name: tensor for name, tensor in state.items()}
    load_weights(model, {wrapper: named, "epoch": 3} if wrapper else named)
    assert_loaded(model, state)


def test_averaged_weights_win_over_the_raw_ones(model, state):
    raw = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    load_weights(model, {"state_dict": raw, "state_dict_ema": state})
    assert_loaded(model, state)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_of_both_formats_load(model, state, tmp_path, zipped):
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    load_weights(model, tmp_path / "w.pth")
    assert_loaded(model, state)


def test_safetensors_load_whatever_their_suffix(model, state, tmp_path):
    save_file(state, tmp_path / "w.pth")
    load_weights(model, str(tmp_path / "w.pth"))
    assert_loaded(model, state)


def test_half_precision_weights_are_cast(model, state):
    load_weights(model, {n: t.half() if t.is_floating_point() else t for n, t in state.items()})
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_batch_counters_may_be_absent(model, state):
    load_weights(model, {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")})
    assert torch.equal(model.backbone.bn1.weight, state["backbone.bn1.weight"])


@pytest.mark.skipif(not PEERS.is_dir(), reason="the peers' weights lie beside the checkout, in shared/")
def test_weights_saved_by_effdet_itself_load():
    model = build_model("tf_efficientdet_d0", 128)
    load_weights(model, PEERS / "effdet_d0.safetensors")
    with torch.no_grad():
        assert all(torch.isfinite(t).all() for level in model(torch.zeros(1, 3, 128, 128)) for t in level)


def test_every_kind_of_misfit_is_listed_at_once_and_nothing_is_loaded(model, state):
    bad = dict(state)
    del bad["backbone.bn1.bias"]
    bad["neck.weight"] = torch.zeros(2)
    bad["backbone.conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    bad["backbone.bn1.weight"] = torch.full((32,), float("nan"))
    message = error_of(model, bad)
    assert "missing     backbone.bn1.bias  [32]" in message
    assert "unexpected  neck.weight  [2]" in message
    assert "shape       backbone.conv_stem.weight  [32, 3, 5, 5], not [32, 3, 3, 3]" in message
    assert "not finite  backbone.bn1.weight" in message


def test_a_long_list_of_misfits_ends_in_a_count(model, state):
    message = error_of(model, {n: t for n, t in state.items() if not n.startswith("fpn.")})
    missing = sum(n.startswith("fpn.") and not n.endswith("num_batches_tracked") for n in state)
    assert message.count("missing     ") == 8
    assert f"and {missing - 8} more" in message


def test_another_number_of_classes_is_named(model):
    message = error_of(model, build_model(NAME, 64, num_classes=7).state_dict())
    assert "--num-classes 7" in message


def test_weights_of_another_flavour_are_recognised():
    weights = build_model("tf_efficientdet_d0", 64, num_classes=20).state_dict()
    message = error_of(build_model("efficientdet_d0", 64), weights)
    assert "belong to: tf_efficientdet_d0" in message


def test_a_missing_file_is_named(model, tmp_path):
    assert "no.pth" in error_of(model, tmp_path / "no.pth")
    assert "directory" in error_of(model, tmp_path).lower()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0005, 0.5, 0.999])
def test_a_truncated_torch_file_is_called_so(model, state, tmp_path, zipped, share):
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in error_of(model, tmp_path / "w.pth")


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_safetensors_file_is_called_so(model, state, tmp_path, share):
    save_file(state, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in error_of(model, tmp_path / "w.safetensors")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickled_code_is_refused_and_never_run(model, state, tmp_path, zipped):
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return Path.touch, (ran,)

    torch.save({"state_dict": state, "extra": Payload()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    message = error_of(model, tmp_path / "w.pth")
    assert "can run any code" in message
    assert "torch.save(model.state_dict()" in message
    assert not ran.exists()


def test_the_classes_in_a_refused_file_are_named(model, state, tmp_path):
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    assert "argparse.Namespace" in error_of(model, tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused(model, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "w.pt")
    assert "TorchScript" in error_of(model, tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x1c\0\0\0TFL3" + bytes(32), "TFLite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(32), "HDF5"),
        (b"hello world, this is a letter", "neither"),
    ],
)
def test_a_foreign_file_is_told_for_what_it_is(model, tmp_path, content, why):
    (tmp_path / "w.pth").write_bytes(content)
    assert why in error_of(model, tmp_path / "w.pth")


def test_a_foreign_zip_is_refused(model, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "torch.save did not write" in error_of(model, tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3)], ids=["no tensors", "list", "one tensor"])
def test_a_checkpoint_without_named_tensors_is_refused(model, tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert "no named tensors" in error_of(model, tmp_path / "w.pth")


class Renamed(nn.Module):
    """Weights in three namings; `b.weight` is a name in two of them, of different tensors."""

    checkpoint_namings = {  # noqa: RUF012
        "swapped": lambda name: {"b.weight": "a.weight", "c.weight": "b.weight"}.get(name, name),
        "detector": lambda name: name.removeprefix("backbone.") if name.startswith("backbone.") else None,
    }

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)


A, B = torch.full((2, 2), 1.0), torch.full((2, 2), 2.0)


@pytest.mark.parametrize(
    "state",
    [
        {"a.weight": A, "b.weight": B},
        {"b.weight": A, "c.weight": B},
        {"module.b.weight": A, "module.c.weight": B},
        {"backbone.a.weight": A, "backbone.b.weight": B, "head.weight": torch.zeros(5)},
    ],
    ids=["official", "swapped", "behind a prefix", "part of a larger model"],
)
def test_a_published_naming_is_recognised_and_loads(state):
    model = Renamed()
    load_weights(model, state)
    assert torch.equal(model.a.weight, A)
    assert torch.equal(model.b.weight, B)


def test_a_misfit_is_called_what_the_file_calls_it():
    message = error_of(Renamed(), {"b.weight": torch.zeros(3, 2), "c.weight": B * torch.nan, "d.weight": A})
    assert "shape       b.weight  [3, 2], not [2, 2]" in message
    assert "not finite  c.weight" in message
    assert "unexpected  d.weight" in message
    assert "missing" not in message


def test_two_tensors_under_one_official_name_are_a_misfit():
    message = error_of(Renamed(), {"a.weight": A, "b.weight": A, "c.weight": B})
    assert "unexpected  c.weight" in message


def pictures(count: int, side: int = 64) -> torch.Tensor:
    """Smooth random pictures: noise enlarged, so that depth sees structure."""
    noise = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, size=(side, side), mode="bilinear")


def test_refitting_is_the_plain_average_over_batches():
    norm = torch.nn.BatchNorm2d(3, momentum=0.01).eval().requires_grad_(False)
    batches = pictures(12).split(4)
    refit_batchnorm(norm, batches)
    torch.testing.assert_close(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0))
    assert norm.momentum == 0.01
    assert not norm.training


@pytest.mark.parametrize("name", ["efficientdet_d0", "tf_efficientdet_lite0"])
def test_random_weights_refitted_to_pictures_tell_pictures_apart(name):
    model = build_model(name, 64)
    weight = model.backbone.conv_stem.weight.clone()
    refit_batchnorm(model, pictures(8).split(4))
    assert not any(module.training for module in model.modules())
    assert torch.equal(model.backbone.conv_stem.weight, weight)
    with torch.no_grad():
        classes, boxes = model(pictures(2))
    for level in classes[:3] + boxes[:3]:
        assert 0.05 < float(level.std()) < 5
        assert float((level[0] - level[1]).std()) > 0.02


def test_refitting_to_no_picture_is_an_error():
    with pytest.raises(DataError, match="no picture"):
        refit_batchnorm(build_model(NAME, 64), [])


def test_refitting_to_one_picture_with_one_cell_levels_is_an_error_and_leaves_eval_mode():
    model = build_model(NAME, 64)
    with pytest.raises(DataError, match="at least two pictures"):
        refit_batchnorm(model, [pictures(1)])
    assert not any(module.training for module in model.modules())
