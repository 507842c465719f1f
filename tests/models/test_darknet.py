"""The darknet layout against data made from the cfg files by an interpreter of its own, and `.weights` files.

darknet_golden.json holds, for each network, its convolutions in the order of the cfg, and what the cfg's layers compute
for a 64 x 64 picture with the weights that darknet_file.py writes.
"""

import json
from pathlib import Path

import darknet_file
import pytest
import torch
from torch import nn

from exporter.build import build_model, count, load_weights, model_info
from exporter.build.darknet import Block
from exporter.build.darknet_weights import read_darknet, tensors
from exporter.errors import DataError, UsageError
from exporter.recipe import recipes_dir

GOLDEN = json.loads((Path(__file__).parent / "darknet_golden.json").read_text())
TOLERANCE = 5e-5
"""Of the largest output, as for the golden files in shared/."""

# Parameters in millions and BFLOPs (2 MACs) at 256, 416 or 512: shared/reference/models.md §5.2.
MEASURED = {
    "csresnet50": ("21.608", "8.967"),
    "csresnext50": ("20.557", "7.929"),
    "csdarknet53": ("27.642", "13.067"),
    "csresnet50_elastic": ("29.848", "9.362"),
    "csresnext50_elastic": ("16.916", "5.447"),
    "csdarknet53_elastic": ("19.082", "7.741"),
    "csresnet50_panet_spp": ("58.329", "49.278"),
    "csresnext50_panet_spp": ("56.943", "47.063"),
    "csresnext50_panet_spp_optimal": ("56.943", "71.291"),
    "csdarknet53_panet_spp": ("64.363", "60.105"),
}
QUICK = ("csresnet50", "csdarknet53_elastic")
SMALL = "csresnext50_elastic"


def on_meta(name):
    with torch.device("meta"):
        return build_model(name)


def convs(name):
    return darknet_file.parse(GOLDEN[name]["convs"])


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    return darknet_file.write(tmp_path_factory.mktemp("weights") / "small.weights", convs(SMALL))


def error_of(model, path) -> str:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_weights(model, path)
    same = (tensor.is_meta or torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(same)
    return str(caught.value)


@pytest.mark.parametrize("name", MEASURED)
def test_parameters_and_bflops_equal_those_counted_from_the_cfg(name):
    parameters, macs = count(on_meta(name), model_info(name).image_size)
    assert (f"{parameters / 1e6:.3f}", f"{2 * macs / 1e9:.3f}") == MEASURED[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_convolutions_stand_in_the_order_of_the_cfg(name):
    model = on_meta(name)
    shapes = dict(tensors(model))
    ours = [
        (*m.weight.shape[:3], f"{n.removesuffix('conv')}bn.running_var" in shapes)
        for n, m in model.named_modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert ours == convs(name)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in GOLDEN])
def test_a_weights_file_gives_what_the_layers_of_the_cfg_compute(name, tmp_path):
    model = build_model(name, 64)
    load_weights(model, darknet_file.write(tmp_path / "golden.weights", convs(name)))
    picture = torch.from_numpy((darknet_file.noise(0, 3 * 64 * 64).reshape(1, 3, 64, 64) + 1) / 2).float()
    with torch.no_grad():
        result = model(picture)
    outputs = result if isinstance(result, list) else [result]
    for output, golden in zip(outputs, GOLDEN[name]["outputs"], strict=True):
        assert list(output.shape) == golden["shape"]
        samples = output.flatten()[torch.linspace(0, output.numel() - 1, len(golden["samples"])).long()]
        assert float((samples - torch.tensor(golden["samples"])).abs().max()) <= TOLERANCE * golden["largest"]


def test_a_narrow_shortcut_is_added_to_the_first_channels_alone():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([10.0, 20.0, -30.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)

    x = torch.ones(1, 2, 2, 2)
    assert Block(Constant(), act=False)(x)[0, :, 0, 0].tolist() == [11, 21, -30]
    assert Block(Constant(), act=True)(x)[0, :, 0, 0].tolist() == [11, 21, -3]


@pytest.mark.parametrize(
    ("name", "side"), [("csdarknet53", 240), ("csresnet50_elastic", 96), ("csresnet50_panet_spp", 48)]
)
def test_a_size_that_the_halvings_do_not_divide_is_a_usage_error(name, side):
    with pytest.raises(UsageError, match="multiples of"):
        build_model(name, side)


def test_darknet_counts_the_classes_of_imagenet_in_its_own_order():
    labels = recipes_dir() / "labels"
    ours, sorted_ids = ((labels / f"{n}.txt").read_text().splitlines() for n in ("imagenet1k_darknet", "imagenet1k"))
    assert sorted(ours) == sorted(sorted_ids)
    assert ours[:3] == ["kit fox", "English setter", "Siberian husky"]  # data/imagenet.shortnames.list of darknet


# --- .weights files ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5), (1, 0, 0)], ids=str)
def test_both_forms_of_the_header_load(version, tmp_path, small_file):
    path = darknet_file.write(tmp_path / "w.weights", [], version, extra=small_file.read_bytes()[20:])
    first, second = (read_darknet(file, on_meta(SMALL)) for file in (small_file, path))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_vectors_come_as_bias_scale_mean_variance_and_kernels_last(small_file):
    model = build_model(SMALL, 64)
    load_weights(model, small_file)
    first = model.backbone.stem[0]
    found = [first.bn.bias, first.bn.weight, first.bn.running_mean, first.bn.running_var, first.conv.weight]
    wanted = list(darknet_file.blocks(convs(SMALL)[:1]))
    for tensor, values in zip(found, wanted, strict=True):
        assert torch.equal(tensor.flatten(), torch.from_numpy(values).float())


def test_a_file_that_ends_early_names_the_tensor(tmp_path, small_file):
    (tmp_path / "w.weights").write_bytes(small_file.read_bytes()[:-4000])
    message = error_of(on_meta(SMALL), tmp_path / "w.weights")
    assert "it ends inside head.weight  [1000, 2048, 1, 1]" in message
    assert "numbers, the network has" in message


@pytest.mark.parametrize("length", [12, 19, 1_000_001])
def test_a_file_cut_inside_the_header_or_a_number_is_truncated(tmp_path, small_file, length):
    (tmp_path / "w.weights").write_bytes(small_file.read_bytes()[:length])
    assert "truncated or damaged" in error_of(on_meta(SMALL), tmp_path / "w.weights")


def test_a_file_with_more_behind_it_does_not_fit(tmp_path, small_file):
    (tmp_path / "w.weights").write_bytes(small_file.read_bytes() + bytes(400))
    assert "does not fit the model" in error_of(on_meta(SMALL), tmp_path / "w.weights")


def test_weights_of_another_network_name_it(small_file):
    assert f"the model these weights belong to: {SMALL}" in error_of(on_meta("csdarknet53_elastic"), small_file)


def test_another_number_of_classes_is_named(small_file):
    assert "--num-classes 1000" in error_of(build_model(SMALL, 64, 7), small_file)


def test_another_number_of_classes_of_a_detector_is_named(tmp_path):
    custom = GOLDEN["csresnext50_panet_spp"]["convs"].replace("255:", "24:")
    path = darknet_file.write(tmp_path / "w.weights", darknet_file.parse(custom))
    assert "--num-classes 3," in error_of(on_meta("csresnext50_panet_spp"), path)


def test_numbers_that_are_not_finite_are_named(tmp_path, small_file):
    content = bytearray(small_file.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"
    (tmp_path / "w.weights").write_bytes(content)
    assert "not finite  head.weight" in error_of(build_model(SMALL, 64), tmp_path / "w.weights")


def test_a_negative_variance_betrays_a_foreign_order(tmp_path, small_file):
    content = bytearray(small_file.read_bytes())
    content[20 + 3 * 64 * 4 + 3] |= 0x80
    (tmp_path / "w.weights").write_bytes(content)
    message = error_of(on_meta(SMALL), tmp_path / "w.weights")
    assert "backbone.stem.0.bn.running_var" in message
    assert "another network" in message


def test_a_model_without_a_cfg_does_not_read_them(small_file):
    assert "darknet .weights file" in error_of(on_meta("tf_efficientdet_lite0"), small_file)


def test_a_file_that_is_no_darknet_model_is_refused_by_its_content(tmp_path):
    (tmp_path / "w.weights").write_bytes(b"<html>Sign in</html>")
    assert "it is a web page" in error_of(on_meta(SMALL), tmp_path / "w.weights")
    (tmp_path / "w.weights").write_bytes(b"\xff" * 100)
    assert "nor darknet weights" in error_of(on_meta(SMALL), tmp_path / "w.weights")
