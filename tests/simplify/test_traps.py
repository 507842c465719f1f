"""The traps of DESIGN.md §3, each on the smallest model that has it, through the whole pipeline."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from parity import Exported, check_float, check_int8, image, simplified
from torch import nn

from exporter.errors import AccuracyError
from exporter.lower.tflite import TFLite
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.verify.runtimes.litert import LiteRT

X = image(1, 3, 16, 16)
both = pytest.mark.parametrize("check", [check_float, check_int8])


def trained(model: nn.Module) -> nn.Module:
    """`model` whose BatchNorms have statistics of a trained kind."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.2, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model


def weights_of(result: Exported) -> list[int]:
    """Tensor index of the weight of every convolution of the file."""
    return [op.inputs[1] for op in result.file.ops if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]


# --- 1 ----------------------------------------------------------------------------------------------------------------
class Head(nn.Module):
    """One convolution over three levels; a BatchNorm for each level where `norms`."""

    def __init__(self, norms: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) if norms else nn.Identity() for _ in range(3))

    def forward(self, x):
        levels = [x, F.max_pool2d(x, 2), F.max_pool2d(x, 4)]
        return [norm(self.conv(level)) for norm, level in zip(self.norms, levels, strict=True)]


@both
def test_trap_1_shared_convolutions_with_a_norm_per_level_fold_per_use(check):
    result = check(trained(Head(norms=True)), X)
    assert set(result.ops) == {"CONV_2D", "MAX_POOL_2D"}
    assert len(set(weights_of(result))) == 3


def test_trap_1_folding_leaves_the_users_weights_alone():
    model = trained(Head(norms=True))
    before = model.conv.weight.clone()
    check_float(model, X)
    assert torch.equal(model.conv.weight, before)


def test_trap_1_shared_convolutions_without_norms_are_stored_once():
    result = check_float(Head(norms=False), X)
    assert len(set(weights_of(result))) == 1


def test_trap_1_identical_constants_share_one_buffer():
    """Two layers with equal weights of their own: two convolutions, one buffer."""
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1))
    alone = len(check_float(model, X).content)
    model[1].load_state_dict(model[0].state_dict())
    twins = check_float(model, X)
    assert len(set(weights_of(twins))) == 1
    assert alone - len(twins.content) >= 4 * model[0].weight.numel()


# --- 2 ----------------------------------------------------------------------------------------------------------------
class FastAttention(nn.Module):
    """EfficientDet's fusion: stack of inputs, each times relu(w)_i / (sum(relu(w)) + 1e-4), summed."""

    def __init__(self) -> None:
        super().__init__()
        self.edge_weights = nn.Parameter(torch.tensor([1.0, -0.5, 2.0]))
        self.convs = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(3))

    def forward(self, x):
        nodes = [conv(y) for conv, y in zip(self.convs, (x, x.tanh(), x.sigmoid()), strict=True)]
        weights = F.relu(self.edge_weights.to(x.dtype))
        total = torch.sum(weights)
        nodes = [(node * weights[i]) / (total + 0.0001) for i, node in enumerate(nodes)]
        return torch.sum(torch.stack(nodes, dim=-1), dim=-1)


@both
def test_trap_2_fusion_weights_fold_and_the_sum_stays_within_rank_4(check):
    result = check(FastAttention(), X)
    assert [n for n in result.nodes if n not in ("tanh", "sigmoid")] == ["conv2d", "conv2d", "conv2d", "add", "add"]
    assert max(len(v.shape) for v in result.graph.values()) == 4


@both
def test_trap_2_resampled_inputs_fold_their_weight_into_the_convolution_before(check):
    class Level(FastAttention):
        def forward(self, x):
            weights = F.relu(self.edge_weights)
            nodes = [self.convs[0](x), F.interpolate(F.max_pool2d(self.convs[2](x), 3, 2, 1), scale_factor=2)]
            return torch.stack([node * weights[i * 2] for i, node in enumerate(nodes)], -1).sum(-1)

    assert "mul" not in check(Level(), X).nodes


@both
def test_trap_2_a_plain_sum_over_a_stack(check):
    assert check(lambda x: torch.stack([x * 2, x.tanh()], -1).sum(-1), X).nodes == ["mul", "tanh", "add"]


# --- 3 (tests/capture/test_in_place.py has one test a form) -----------------------------------------------------------
@both
def test_trap_3_later_readers_of_an_input_see_the_mutated_value(check):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.conv(x)
            F.silu(y, inplace=True)
            z = y.clone()
            y += 1.0
            z[:, 0:1] = y[:, 1:2]
            y.copy_(z * 2)
            return y - z

    check(Block(), X)


# --- 4 ----------------------------------------------------------------------------------------------------------------
class TensorFlowSame(nn.Module):
    """A stride-2 convolution and max-pool, padded explicitly as TensorFlow pads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x):
        y = self.conv(F.pad(x, (0, 1, 0, 1)))
        return F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-math.inf), 3, 2)


@both
def test_trap_4_tensorflow_pads_become_same_padding(check):
    result = check(TensorFlowSame(), X)
    assert result.ops == ["CONV_2D", "MAX_POOL_2D"]


@both
def test_trap_4_no_infinity_is_left(check):
    """Symmetric PyTorch pads equal SAME on odd sizes only: on even ones the border is repeated, which never wins."""
    result = check(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, 1)), X)
    assert result.ops == ["PAD", "CONV_2D", "SLICE", "CONCATENATION", "SLICE", "CONCATENATION", "MAX_POOL_2D"]
    attributes = [a for n in result.graph.nodes for a in n.attrs.values() if isinstance(a, float)]
    assert all(map(math.isfinite, attributes))


# --- 5 ----------------------------------------------------------------------------------------------------------------
@both
def test_trap_5_channel_shuffle_stays_within_rank_4_and_is_no_transpose(check):
    def shuffle(x):
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

    result = check(shuffle, image(1, 6, 4, 5))
    assert max(len(t.shape) for t in result.file.tensors) == 4
    assert "TRANSPOSE" not in result.ops


class PartialConv(nn.Module):
    """FasterNet's PConv in both of its forms: a convolution over the first quarter of the channels."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.conv = form, nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, x):
        if self.form == "split_cat":
            first, rest = torch.split(x, [2, 6], dim=1)
            return torch.cat((self.conv(first), rest), 1)
        x = x.clone()
        x[:, :2] = self.conv(x[:, :2])
        return x


@both
@pytest.mark.parametrize("form", ["split_cat", "slicing"])
def test_trap_5_partial_convolution_in_both_forms(check, form):
    result = check(nn.Sequential(nn.Conv2d(3, 8, 1), PartialConv(form), nn.Conv2d(8, 4, 1)), X)
    assert sorted(result.nodes) == ["concat", "conv2d", "conv2d", "conv2d", "slice", "slice"]
    assert "TRANSPOSE" not in result.ops


# --- 6 ----------------------------------------------------------------------------------------------------------------
@both
def test_trap_6_identity_resizes_are_dropped(check):
    assert check(lambda x: F.interpolate(x.tanh(), (16, 16), mode="nearest"), X).nodes == ["tanh"]


@both
def test_trap_6_a_branch_added_to_itself_is_evaluated_once(check):
    class Fuse(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))

        def forward(self, x):
            y = self.branch(x)
            return torch.relu(y + self.branch(x))

    assert check(trained(Fuse()), X).nodes == ["conv2d"]


def test_trap_6_adaptive_pools_of_a_whole_ratio_are_average_pools():
    result = check_float(nn.AdaptiveAvgPool2d((4, 8)), X)
    assert result.ops == ["AVERAGE_POOL_2D"]


@both
def test_trap_6_bilinear_with_aligned_corners(check):
    assert check(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), X).ops == ["RESIZE_BILINEAR"]


@both
@pytest.mark.parametrize(("size", "target"), [(3, 5), (4, 7)])
def test_trap_6_nearest_of_a_broken_ratio(check, size, target):
    check(lambda x: F.interpolate(x, (target, target), mode="nearest"), image(1, 3, size, size))


# --- 7 ----------------------------------------------------------------------------------------------------------------
class Concat(nn.Module):
    """A concat of a convolution, a pooled convolution, a sigmoid and the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 4, 1) for _ in range(3))

    def forward(self, x):
        return torch.cat([self.a(x), F.max_pool2d(self.b(x), 3, 1, 1), self.c(x).sigmoid(), x], 1)


def test_trap_7_a_concat_and_its_operands_share_their_parameters(tmp_path):
    """Else XNNPACK refuses the concat and the whole delegate fails to prepare; here it takes all of it."""
    result = check_int8(Concat(), X)
    (node,) = (n for n in result.graph.nodes if n.op.name == "concat")
    assert {v.quant for v in node.inputs} == {node.output.quant}
    (tmp_path / "concat.tflite").write_bytes(result.content)
    assert LiteRT(tmp_path / "concat.tflite").partitions().undelegated == ()


# --- 8 (tests/capture/test_noise.py has one test a form) --------------------------------------------------------------
@both
def test_trap_8_noise_is_dropped(check):
    def noisy(x):
        y = F.dropout(x.to(torch.float32), 0.3, training=False)
        return torch.ops.aten.alias(y.split(3, 1)[0].contiguous().clone().detach()).relu()

    assert check(noisy, X).nodes == ["relu"]


# --- 9 ----------------------------------------------------------------------------------------------------------------
class Detector(nn.Module):
    """Boxes in pixels and scores in 0..1."""

    def __init__(self, joined: bool, pixels: float = 16.0) -> None:
        super().__init__()
        self.joined, self.pixels, self.conv = joined, pixels, nn.Conv2d(3, 4, 1)

    def forward(self, x):
        scores = self.conv(x).sigmoid()
        boxes = self.conv(x).tanh().relu() * self.pixels
        return torch.cat([boxes, scores], 1) if self.joined else (boxes, scores)  # the join


def quantized(model: nn.Module) -> None:
    graph = simplified(model, X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    assert not TFLite().unsupported(graph)


def test_trap_9_boxes_and_scores_in_one_tensor_are_refused():
    with pytest.raises(AccuracyError) as caught:
        quantized(Detector(joined=True, pixels=640.0))
    text = str(caught.value)
    assert "x apart in one int8 tensor" in text
    assert "test_traps.py" in text
    assert "torch.cat([boxes, scores], 1)" in text
    assert "# the join" in text
    assert "separate outputs" in text


def test_trap_9_separate_outputs_keep_their_own_scales():
    result = check_int8(Detector(joined=False, pixels=640.0), X)
    boxes, scores = result.graph.outputs
    assert scores.quant.scale == (1 / 256,)
    assert boxes.quant.scale[0] > 200 * scores.quant.scale[0]


def test_trap_9_ranges_within_16x_may_share_a_tensor():
    quantized(Detector(joined=True, pixels=8.0))
