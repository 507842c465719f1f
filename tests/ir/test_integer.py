"""Closed-form checks of the integer arithmetic: exact accumulation, ties, saturation, refusals. No runtime needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.errors import UnsupportedError
from exporter.ir.integer import INTEGER, requantize, silu_codes
from exporter.ir.integer.conv import EXACT, accumulate
from exporter.ir.ops import OPS, Scale
from exporter.ir.quant import QuantParams
from exporter.quantize.expand import EXPANSIONS

UNIT = QuantParams((1.0,), 0)
SIGMOID = QuantParams((1 / 256,), -128)
ALL = torch.arange(-128, 128, dtype=torch.int8)
CONV = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1, "activation": "none"}


def codes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def int8(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int8)


def conv_int64(x: Tensor, weight: Tensor, bias: Tensor, zero_point: int, **attrs: object) -> Tensor:
    """The accumulator in float64, which holds these integers exactly."""
    return F.conv2d(x.double() - zero_point, weight.double(), bias.double(), **attrs)  # type: ignore[arg-type]


# --- the table is complete --------------------------------------------------------------------------------------------
def test_every_op_that_can_be_quantised_has_integer_arithmetic() -> None:
    quantised = {name for name, op in OPS.items() if op.scale is not Scale.FLOAT}
    folded_or_split = {"batch_norm", "layer_norm", *EXPANSIONS}
    assert quantised - folded_or_split == set(INTEGER)


# --- accumulation -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("channels", [16, 600, 4000])
def test_extreme_weights_accumulate_exactly(channels: int) -> None:
    """127 x 255 per product: 600 channels already pass 2^24, where a float32 sum would round."""
    x = torch.full((1, channels, 3, 3), 127, dtype=torch.int8)
    x[:, ::2] -= 1
    weight = torch.full((4, channels, 1, 1), 127, dtype=torch.int8)
    weight[1] = codes(channels, 1, 1)
    bias = torch.tensor([0, 1, 2**30, -7], dtype=torch.int32)
    acc = accumulate(x.float() + 128, weight, bias, 255, F.conv2d)
    expected = conv_int64(x, weight, bias, -128)
    assert torch.equal(acc, expected.float())


def test_accumulation_is_exact_just_below_the_float32_limit() -> None:
    """Odd sums next to 2^24 - 1 leave no spare bit: a Winograd, bf16 or tf32 kernel would show here."""
    channels = 57
    x = torch.full((1, channels, 16, 16), 255.0)
    x[:, -1] = 254.0
    weight = torch.full((8, channels, 3, 3), 127, dtype=torch.int8)
    bias = torch.arange(8, dtype=torch.int32)
    assert 0.99 * EXACT < channels * 9 * 127 * 255 < EXACT
    acc = accumulate(x, weight, bias, 255, lambda x, w, b: F.conv2d(x, w, b, padding=1))
    assert torch.equal(acc, F.conv2d(x.double(), weight.double(), bias.double(), padding=1).float())


@pytest.mark.parametrize(("groups", "kernel"), [(1, 3), (4, 3), (8, 33)], ids=["dense", "grouped", "huge-depthwise"])
def test_split_accumulation_agrees_for_every_grouping(groups: int, kernel: int) -> None:
    channels = 8 if groups == 8 else 256
    x = codes(1, channels, kernel + 2, kernel + 2).float() + 128
    weight = torch.full((groups * 2, channels // groups, kernel, kernel), 127, dtype=torch.int8)
    bias = torch.full((groups * 2,), 2**28, dtype=torch.int32)
    acc = accumulate(x, weight, bias, 255, lambda x, w, b: F.conv2d(x, w, b, groups=groups))
    assert torch.equal(acc, F.conv2d(x.double(), weight.double(), bias.double(), groups=groups).float())


# --- conv2d and linear ------------------------------------------------------------------------------------------------
def test_conv_rounds_ties_to_even() -> None:
    """A multiplier of 1/2 makes every odd accumulator a tie."""
    x = int8(-5, -3, -1, 1, 3, 5).reshape(6, 1, 1, 1)
    weight, bias = int8(1).reshape(1, 1, 1, 1), torch.zeros(1, dtype=torch.int32)
    half = QuantParams((0.5,), 0, axis=0)
    y = INTEGER["conv2d"]([x, weight, bias], [UNIT, half, None], UNIT, **CONV)
    assert y.flatten().tolist() == [-2, -2, 0, 0, 2, 2]


def test_conv_adds_the_zero_point_after_rounding_and_saturates() -> None:
    x = int8(-128, 1, 3, 127).reshape(4, 1, 1, 1)
    weight, bias = int8(1).reshape(1, 1, 1, 1), torch.zeros(1, dtype=torch.int32)
    half, out = QuantParams((0.5,), 0, axis=0), QuantParams((1.0,), 101)
    y = INTEGER["conv2d"]([x, weight, bias], [UNIT, half, None], out, **CONV)
    assert y.flatten().tolist() == [37, 101, 103, 127]


def test_conv_padding_holds_the_zero_point() -> None:
    """An input of zero points alone is real zero everywhere, so the borders equal the middle."""
    x = torch.full((1, 3, 5, 5), 17, dtype=torch.int8)
    weight, bias = codes(4, 3, 3, 3), torch.tensor([40, -40, 0, 7], dtype=torch.int32)
    params = [QuantParams((1.0,), 17), QuantParams((1.0,) * 4, 0, axis=0), None]
    y = INTEGER["conv2d"]([x, weight, bias], params, UNIT, **{**CONV, "padding": (1, 0, 2, 1)})
    assert y.shape == (1, 4, 4, 6)
    assert torch.equal(y, bias.to(torch.int8).reshape(1, 4, 1, 1).expand_as(y))


@pytest.mark.parametrize(("activation", "expected"), [("none", [-40, 0, 60, 80]), ("relu", [5, 5, 65, 85])])
def test_conv_activation_clamps_at_the_code_of_zero(activation: str, expected: list[int]) -> None:
    zero_point = 5 if activation == "relu" else 0
    x = int8(-40, 0, 60, 80).reshape(4, 1, 1, 1)
    weight, bias = int8(1).reshape(1, 1, 1, 1), torch.zeros(1, dtype=torch.int32)
    params = [UNIT, QuantParams((1.0,), 0, axis=0), None]
    y = INTEGER["conv2d"](
        [x, weight, bias], params, QuantParams((1.0,), zero_point), **{**CONV, "activation": activation}
    )
    assert y.flatten().tolist() == expected


def test_relu6_clamps_at_the_code_of_six() -> None:
    out = QuantParams((0.1,), -100)
    y = INTEGER["add"]([ALL, torch.zeros_like(ALL)], [UNIT, UNIT], out, activation="relu6")
    assert int(y.min()) == -100
    assert int(y.max()) == -40


def test_linear_is_a_1x1_convolution_over_the_last_dim() -> None:
    x, weight, bias = codes(2, 3, 20), codes(5, 20, seed=1), torch.arange(5, dtype=torch.int32)
    params = [QuantParams((0.5,), 3), QuantParams((2.0,) * 5, 0, axis=0), None]
    y = INTEGER["linear"]([x, weight, bias], params, QuantParams((512.0,), 0), activation="none")
    acc = (x.double() - 3) @ weight.double().T + bias
    assert torch.equal(y, torch.round(acc / 512).clamp(-128, 127).to(torch.int8))


# --- two operands -----------------------------------------------------------------------------------------------------
def test_add_rounds_ties_up() -> None:
    """Scale ratio 1/2: the fixed-point shift rounds half towards plus infinity, unlike conv and mul."""
    out = QuantParams((2.0,), 0)
    y = INTEGER["add"]([int8(-3, -1, 1, 3), int8(0, 0, 0, 0)], [UNIT, UNIT], out, activation="none")
    assert y.tolist() == [-1, 0, 1, 2]


def test_mul_rounds_ties_to_even() -> None:
    out = QuantParams((2.0,), 0)
    y = INTEGER["mul"]([int8(-3, -1, 1, 3), int8(1, 1, 1, 1)], [UNIT, UNIT], out, activation="none")
    assert y.tolist() == [-2, 0, 0, 2]


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_two_operand_ops_saturate_at_both_ends(op: str) -> None:
    a, b = int8(127, -128, 127, -128), int8(127, 127, -128, -128)
    y = INTEGER[op]([a, b], [UNIT, UNIT], UNIT, activation="none")
    real = {"add": a.int() + b.int(), "sub": a.int() - b.int(), "mul": a.int() * b.int()}[op]
    assert y.tolist() == real.clamp(-128, 127).tolist()


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 1, 3, 5), (1,)])
def test_two_operand_ops_broadcast_like_torch(shape: tuple[int, ...]) -> None:
    a, b = codes(1, 4, 3, 5), codes(*shape, seed=1)
    out = QuantParams((200.0,), -3)
    y = INTEGER["mul"]([a, b], [UNIT, UNIT], out, activation="none")
    full = INTEGER["mul"]([a, b.expand(1, 4, 3, 5).clone()], [UNIT, UNIT], out, activation="none")
    assert torch.equal(y, full)


def test_a_tiny_operand_is_added_by_the_builtin_kernel() -> None:
    """A scale ratio below 2^-10 leaves XNNPACK; the sum is then the large operand, not an error."""
    fine = QuantParams((2.0**-12,), 0)
    y = INTEGER["add"]([ALL, ALL.flip(0)], [UNIT, fine], UNIT, activation="none")
    assert torch.equal(y, ALL)


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_a_scale_ratio_of_256_is_refused(op: str) -> None:
    with pytest.raises(UnsupportedError, match="wrap around"):
        INTEGER[op]([ALL, ALL.clone()], [UNIT, UNIT], QuantParams((2.0**-8,), 0), activation="none")


def test_int8_division_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="division"):
        INTEGER["div"]([ALL, ALL], [UNIT, UNIT], UNIT, activation="none")


# --- one operand ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("op", "out"), [("sigmoid", SIGMOID), ("tanh", QuantParams((1 / 128,), 0))])
def test_table_ops_hold_the_nearest_code(op: str, out: QuantParams) -> None:
    params = QuantParams((0.05,), 10)
    real = OPS[op].run(params.dequantize(ALL).double()).float()
    assert torch.equal(INTEGER[op]([ALL], [params], out), out.quantize(real))


def test_a_tensor_times_itself_is_the_runtime_s_square() -> None:
    """XNNPACK rewrites mul(x, x) to its square, which rounds after adding the zero point: 0.5 + 1 ties to 2, not 1."""
    half = QuantParams((2.0,), 1)
    x = int8(1, 3)
    assert INTEGER["mul"]([x, x], [UNIT, UNIT], half, activation="none").tolist() == [2, 6]
    assert INTEGER["mul"]([x, x.clone()], [UNIT, UNIT], half, activation="none").tolist() == [1, 5]


def test_silu_is_the_two_ops_in_one_table() -> None:
    x = codes(2, 8, 6, 4)
    params, out = QuantParams((0.04,), -20), QuantParams((0.02,), -110)
    gate = INTEGER["sigmoid"]([x], [params], SIGMOID)
    assert torch.equal(
        silu_codes(x, params, SIGMOID, out), INTEGER["mul"]([x, gate], [params, SIGMOID], out, activation="none")
    )


def test_requantize_to_the_same_parameters_changes_nothing() -> None:
    params = QuantParams((0.3,), 7)
    assert torch.equal(requantize(ALL, params, params), ALL)


def test_requantize_rounds_ties_up() -> None:
    assert requantize(int8(-3, -1, 1, 3), UNIT, QuantParams((2.0,), 0)).tolist() == [-1, 0, 1, 2]


def test_leaky_relu_scales_the_negative_side_alone() -> None:
    y = INTEGER["leaky_relu"]([int8(-100, -4, 0, 4, 100)], [UNIT], UNIT, negative_slope=0.25)
    assert y.tolist() == [-25, -1, 0, 4, 100]


@pytest.mark.parametrize(("op", "attrs"), [("relu", {}), ("relu6", {}), ("gelu", {"approximate": "none"})])
def test_builtin_activations_stay_within_a_code_of_the_real_function(op: str, attrs: dict[str, str]) -> None:
    params, out = QuantParams((0.04,), 3), QuantParams((0.025,), -118)
    y = INTEGER[op]([ALL], [params], out, **attrs)
    expected = out.quantize(OPS[op].run(params.dequantize(ALL), **attrs))
    assert int((y.int() - expected.int()).abs().max()) <= 1


def test_softmax_of_equal_codes_is_uniform() -> None:
    y = INTEGER["softmax"]([torch.full((2, 4, 3), 9, dtype=torch.int8)], [UNIT], SIGMOID, dim=1)
    assert torch.equal(y, torch.full_like(y, -64))


def test_lookup_keeps_the_memory_order() -> None:
    x = codes(1, 8, 5, 6).contiguous(memory_format=torch.channels_last)
    y = INTEGER["sigmoid"]([x], [UNIT], SIGMOID)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, INTEGER["sigmoid"]([x.contiguous()], [UNIT], SIGMOID))


def test_quantize_rounds_the_product_with_the_reciprocal_half_to_even() -> None:
    out = QuantParams((0.5,), 1)
    x = torch.tensor([-0.75, -0.25, 0.25, 0.75, 1e30, -1e30])
    assert INTEGER["quantize"]([x], [None], out).tolist() == [-1, 1, 1, 3, 127, -128]


# --- windows ----------------------------------------------------------------------------------------------------------
def test_max_pool_padding_never_wins() -> None:
    x = torch.full((1, 2, 4, 4), -128, dtype=torch.int8)
    y = INTEGER["max_pool2d"]([x], [UNIT], UNIT, kernel=(3, 3), stride=(2, 2), padding=(0, 1, 0, 1))
    assert torch.equal(y, torch.full_like(y, -128))


def test_mean_rounds_half_to_even_and_can_change_parameters() -> None:
    x = int8(1, 2, 3, 4, -1, -2).reshape(1, 3, 1, 2)
    assert INTEGER["mean"]([x], [UNIT], UNIT, dims=(2, 3), keepdim=True).flatten().tolist() == [2, 4, -2]
    out = QuantParams((0.25,), 10)
    assert INTEGER["mean"]([x], [UNIT], out, dims=(2, 3), keepdim=False).tolist() == [[16, 24, 4]]


def test_mean_of_a_large_image_does_not_overflow() -> None:
    x = torch.full((1, 2, 300, 300), -128, dtype=torch.int8)
    assert INTEGER["mean"]([x], [UNIT], UNIT, dims=(2, 3), keepdim=False).tolist() == [[-128, -128]]


@pytest.mark.parametrize(("size", "out"), [(4, 8), (3, 5), (21, 69), (7, 3)])
def test_resize_nearest_takes_the_exact_floor(size: int, out: int) -> None:
    x = torch.arange(size, dtype=torch.int8).reshape(1, 1, 1, size)
    y = INTEGER["resize_nearest"]([x], [UNIT], UNIT, size=(1, out))
    assert y.flatten().tolist() == [i * size // out for i in range(out)]


@pytest.mark.parametrize("align_corners", [False, True])
def test_resize_bilinear_stays_within_half_a_code(align_corners: bool) -> None:
    x = codes(1, 3, 7, 9)
    y = INTEGER["resize_bilinear"]([x], [UNIT], UNIT, size=(14, 18), align_corners=align_corners)
    real = F.interpolate(x.double(), (14, 18), mode="bilinear", align_corners=align_corners)
    assert float((y - real).abs().max()) < 0.5 + 255 * 2.0**-11


# --- shape ------------------------------------------------------------------------------------------------------------
def test_pad_fills_with_the_zero_point() -> None:
    params = QuantParams((0.5,), -7)
    y = INTEGER["pad"]([int8(1, 2)], [params], params, before=(1,), after=(2,), value=0.0)
    assert y.tolist() == [-7, 1, 2, -7, -7]


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("concat", {"dim": 0}),
        ("reshape", {"shape": (2, 128)}),
        ("max_pool2d", {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0)}),
    ],
)
def test_ops_that_only_move_codes_refuse_other_parameters(op: str, attrs: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match="different quantisation parameters"):
        INTEGER[op]([ALL], [UNIT], QuantParams((0.5,), 0), **attrs)


def test_shape_ops_agree_with_torch() -> None:
    x = codes(1, 4, 3, 5)
    assert torch.equal(INTEGER["slice"]([x], [UNIT], UNIT, dim=1, start=0, end=4, step=2), x[:, ::2])
    assert torch.equal(INTEGER["transpose"]([x], [UNIT], UNIT, perm=(0, 2, 3, 1)), x.permute(0, 2, 3, 1))
    assert np.array_equal(INTEGER["reshape"]([x], [UNIT], UNIT, shape=(4, 15)), x.reshape(4, 15))
    assert torch.equal(INTEGER["concat"]([x, x], [UNIT, UNIT], UNIT, dim=1), torch.cat([x, x], 1))
