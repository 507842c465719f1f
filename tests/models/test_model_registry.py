"""Names, sizes, costs and the errors of build_model. Expected figures: shared/reference/models.md §2.2 and §5.1."""

import pytest
import torch

from exporter.build import ModelInfo, build_model, count, list_models, model_info, register_model
from exporter.errors import UsageError

# Parameters and GMACs at the model's own size, measured on effdet 0.4.1 and timm 1.0.31.
MEASURED = {
    "tf_efficientdet_d0": (3_880_067, "2.492"),
    "tf_efficientdet_d1": (6_625_898, "6.003"),
    "tf_efficientdet_d2": (8_097_039, "10.83"),
    "tf_efficientdet_d3": (12_032_296, "24.57"),
    "tf_efficientdet_d4": (20_723_675, "54.58"),
    "tf_efficientdet_d5": (33_653_315, "134.1"),
    "tf_efficientdet_d6": (51_871_782, "224.1"),
    "tf_efficientdet_d7": (51_871_782, "322.7"),
    "tf_efficientdet_d7x": (77_147_166, "407.6"),
    "tf_efficientdet_lite0": (3_243_470, "0.974"),
    "tf_efficientdet_lite1": (4_248_318, "1.967"),
    "tf_efficientdet_lite2": (5_252_334, "3.371"),
    "tf_efficientdet_lite3": (8_350_862, "7.480"),
    "tf_efficientdet_lite3x": (9_280_862, "13.98"),
    "tf_efficientdet_lite4": (15_130_894, "20.17"),
    "efficientdet_d0": (3_877_763, "2.492"),
    "efficientdet_d1": (6_622_026, "6.003"),
    "cspresnet50": (21_616_168, "4.517"),
    "cspresnext50": (20_569_896, "4.015"),
    "cspdarknet53": (27_642_184, "6.534"),
    # f_i0 of the fusion counted once.
    "litehrnet_18": (1_130_769, "0.1986"),
    "litehrnet_18_coco_384x288": (1_130_769, "0.4468"),
    "litehrnet_30": (1_763_717, "0.3095"),
    "litehrnet_30_coco_384x288": (1_763_717, "0.6960"),
    "naive_litehrnet_18": (760_365, "0.1855"),
    "wider_naive_litehrnet_18": (1_318_625, "0.3023"),
}


SLOW = [f"d{n}" for n in range(2, 8)] + ["d7x", "lite3x", "d4_seg"]


def marked(names):
    """The large models, which take seconds even without arithmetic, run with the slow tests."""
    return [pytest.param(n, marks=pytest.mark.slow if n.rpartition("det_")[2] in SLOW else ()) for n in names]


@pytest.mark.parametrize("name", marked(info.name for info in list_models()))
def test_parameters_and_macs_equal_those_measured_on_the_reference_and_the_facts_beside_the_model(name):
    info = model_info(name)
    with torch.device("meta"):
        model = build_model(name)
    parameters, macs = count(model, info.image_size)
    expected, printed = MEASURED.get(name, (info.params, str(info.gmacs)))
    digits = len(printed.partition(".")[2])
    assert parameters == expected == info.params
    assert f"{macs / 1e9:.{digits}f}" == printed
    assert info.gmacs == float(printed)


@pytest.mark.parametrize("size", marked(["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"]))
def test_the_flavours_differ_by_the_redundant_biases_alone(size):
    with torch.device("meta"):
        plain = build_model(f"efficientdet_{size}").state_dict()
        tf = build_model(f"tf_efficientdet_{size}").state_dict()
    extra = tf.keys() - plain.keys()
    assert plain.keys() <= tf.keys()
    assert extra
    assert all(name.endswith(("conv.bias", "conv_pw.bias")) and not name.startswith("backbone") for name in extra)


def test_every_size_and_flavour_is_listed_once():
    names = [info.name for info in list_models()]
    sizes = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"]
    lite = ["lite0", "lite1", "lite2", "lite3", "lite3x", "lite4"]
    wanted = {f"efficientdet_{s}" for s in sizes} | {f"tf_efficientdet_{s}" for s in sizes + lite}
    assert len(names) == len(set(names))
    assert wanted | {"efficientdet_d4_seg"} == {name for name in names if "efficientdet" in name}


def test_official_means_weights_are_published_under_that_name():
    assert model_info("efficientdet_d0").official
    assert model_info("tf_efficientdet_d7x").official
    assert not model_info("efficientdet_d2").official
    assert not model_info("efficientdet_d4_seg").official


def test_advprop_weights_bring_their_own_normalisation():
    d0 = model_info("tf_efficientdet_d0").checkpoints
    assert d0["coco"].mean == pytest.approx((0.485, 0.456, 0.406))
    assert d0["coco-advprop"].mean == (0.5, 0.5, 0.5)


def test_a_checkpoint_is_verified_by_the_digits_in_its_file_name_and_only_fasternets_carry_none():
    for info in list_models():
        for checkpoint in info.checkpoints.values():
            if info.name.startswith("fasternet"):
                assert checkpoint.sha256 is None
                continue
            undated = checkpoint.url.removesuffix(".pth").partition("_2021")[0]  # mmpose dates its files
            assert undated.endswith(f"-{checkpoint.sha256}")
            assert len(checkpoint.sha256) == 8


def test_building_twice_gives_the_same_bytes_and_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = build_model("tf_efficientdet_lite0"), build_model("tf_efficientdet_lite0")
    assert torch.equal(torch.rand(3), expected)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_a_built_model_is_ready_for_export():
    model = build_model("efficientdet_d0")
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_counting_leaves_a_real_model_as_it_was():
    model = build_model("efficientdet_d0", image_size=128)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model, (128, 128))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_num_classes_and_image_size_replace_the_published_ones():
    model = build_model("efficientdet_d0", image_size=(128, 192), num_classes=3)
    with torch.no_grad():
        classes, boxes = model(torch.zeros(1, 3, 128, 192))
    assert [tuple(t.shape) for t in classes] == [(1, 27, *s) for s in [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]]
    assert [t.shape[1] for t in boxes] == [36] * 5


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UsageError, match="did you mean efficientdet_d0"):
        build_model("eficientdet_d0")


@pytest.mark.parametrize("size", [0, -128, 31, 128.0, "128", True, (128,), (128, 128, 3), (128, 31)])
def test_an_impossible_image_size_is_a_usage_error(size):
    with pytest.raises(UsageError, match="image_size"):
        build_model("efficientdet_d0", image_size=size)


@pytest.mark.parametrize("classes", [0, -1, 2.5, "90", False])
def test_an_impossible_number_of_classes_is_a_usage_error(classes):
    with pytest.raises(UsageError, match="num_classes"):
        build_model("efficientdet_d0", num_classes=classes)


def test_a_backbone_without_a_head_has_no_classes_to_set():
    with pytest.raises(UsageError, match="has no classes"):
        build_model("fasternet_t0_features", num_classes=10)


def test_registering_a_name_twice_is_an_error():
    info = ModelInfo("efficientdet_d0", "detection", (512, 512), 90, 0, 0.0)
    with pytest.raises(ValueError, match="efficientdet_d0 is registered twice"):
        register_model(info)(lambda size, classes: torch.nn.Identity())
