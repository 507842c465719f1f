"""From ranges to parameters, and from parameters to an int8 graph.

`make_plan` decides every value's QuantParams (DESIGN.md §4): all scales on the float16 grid, values that same-scale ops
connect share one set, weights symmetric per output channel. `apply_plan` is the only place that writes parameters and
integer constants into a graph, so a plan read back from a file gives the same model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from exporter.errors import AccuracyError, DataError
from exporter.ir.check import derived_scale
from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Scale
from exporter.ir.quant import QuantParams, fp16_grid
from exporter.quantize.calibrate import Ranges
from exporter.quantize.joins import ends_outside
from exporter.quantize.legalize import integer_nodes, multiplies_right
from exporter.quantize.ties import avoid_ties

Plan = dict[str, QuantParams]
"""Value name -> parameters, in graph order, for every activation, weight and constant operand. Biases are derived."""

MOST_JOINED = 16.0
"""Ranges further apart than this may not share one quantised tensor (DESIGN.md §3, trap 9)."""
MOST_RESCALED = 255.0
"""Largest product of input scales per output scale: the runtime's factor must stay below 256."""
PRODUCTS = ("conv2d", "conv_transpose2d", "linear", "matmul", "mul")
"""Ops whose accumulators have the product of their operands' scales."""
NOT_RESCALED = ("exp", "rsqrt", "sqrt")
"""Ops whose kernels go through the real value: no factor between scales."""
LEVELS = 255
"""Steps between the smallest and the largest int8 code."""
LARGEST_SCALE = 65504.0
"""The largest float16 value."""
LARGEST_WEIGHT = 127
REDUCED_WEIGHT = 63
"""Largest code of a weight; and one of 7 bits, so that two products of it with 8-bit codes fit into 16 bits."""
BIAS_LIMIT = 2.0**30
"""Largest bias code: leaves the int32 accumulator as much room again."""


def make_plan(graph: Graph, ranges: Ranges, largest_weight: int = LARGEST_WEIGHT) -> Plan:
    """Parameters for every quantised value of `graph` (after legalize, before `apply_plan`). No weight, and no second
    operand of a matmul within its range, has a code larger than `largest_weight`.
    """
    plan: Plan = {}
    groups = _groups(graph)
    for group in groups:
        plan.update(_group_params(graph, group, ranges, largest_weight))
    for node in integer_nodes(graph):
        if node.op.data_inputs == 1:
            x, weight, bias = node.inputs
            params = weight_params(_tensor(weight), _tensor(bias), plan[x.name].scale[0], largest_weight)
            shared = plan.get(weight.name, params)  # by another convolution, whose bias must fit too
            plan[weight.name] = replace(params, scale=tuple(map(max, params.scale, shared.scale)))
        else:
            for value in node.inputs:
                if value.const is not None and value.name not in plan:
                    params = constant_params(_tensor(value))
                    right = multiplies_right(value)
                    plan[value.name] = symmetric_params(*params.range, largest_weight) if right else params
    _widen(graph, plan, groups)
    avoid_ties(graph, plan, groups)
    return {v.name: plan[v.name] for v in graph.values() if v.name in plan}


def apply_plan(graph: Graph, plan: Plan, largest_weight: int = LARGEST_WEIGHT) -> None:
    """Write the parameters of `plan` into `graph` and turn its constants into codes.

    Raises DataError when the plan does not fit the graph, naming the values.
    """
    wanted = {v.name: v for v in [*_quantised_values(graph), *_constants(graph)]}
    weights = {node.inputs[1].name for node in _weighted(graph)}
    missing = [name for name, value in wanted.items() if not _fits(plan.get(name), value, name in weights)]
    if missing:
        raise DataError(
            f"the plan lacks {len(missing)} of {len(wanted)} values",
            where=[*missing[:8], *(["…"] if len(missing) > 8 else [])],
            why="it was made for another model, size or version",
            try_="calibrate again (leave --plan out)",
        )
    if broken := [*_broken_rules(graph, plan), *_clipped(graph, plan, largest_weight)]:
        raise DataError(
            f"the plan cannot hold for {len(broken)} of {len(wanted)} values",
            where=[*broken[:8], *(["…"] if len(broken) > 8 else [])],
            why="it was edited by hand, or made for other weights",
            try_="undo the edit, or calibrate again (leave --plan out)",
        )
    for name, value in wanted.items():
        if value.const is None:
            value.quant = plan[name]
    done: dict[int, Value] = {}
    for node in integer_nodes(graph):
        for index, value in enumerate(list(node.inputs)):
            if value.const is not None and value.quant is None and not (node.op.data_inputs == 1 and index == 2):
                codes = done.setdefault(id(value), _coded(graph, value, plan[value.name]))
                graph.set_input(node, index, codes)
        if node.op.data_inputs == 1:
            _derive_bias(graph, node)


def _fits(params: QuantParams | None, value: Value, is_weight: bool) -> bool:
    """Whether a plan's parameters can be those of `value`: int8, one scale, or one for each output channel."""
    if params is None or params.dtype != "int8":
        return False
    if not is_weight:
        return params.axis is None
    return params.axis == 0 and len(params.scale) == value.shape[0]


def _broken_rules(graph: Graph, plan: Plan) -> Iterable[str]:
    """Results of same-scale ops whose operands have other parameters, and of fixed ones that have not theirs."""
    for node in integer_nodes(graph):
        name = node.output.name
        if node.op.scale is Scale.FIXED and plan[name] != node.op.fixed:
            assert node.op.fixed is not None
            scale, zero_point = node.op.fixed.scale[0], node.op.fixed.zero_point
            yield f"{name}: the scale of a {node.op.name} is {scale}, its zero point {zero_point}, by the specification"
        for right in filter(multiplies_right, node.inputs[1:]):
            if plan[right.name].zero_point != 0:
                yield f"{right.name}: the second operand of a matmul has zero point 0"
        if node.op.scale is Scale.SAME:
            for other in dict.fromkeys(v.name for v in node.inputs if plan[v.name] != plan[name]):
                yield f"{name}: a {node.op.name} has the parameters of its operand {other}"


def _clipped(graph: Graph, plan: Plan, largest_weight: int) -> Iterable[str]:
    """Weights beyond the largest code, and biases beyond BIAS_LIMIT: the scale is too small for them."""
    for node in _weighted(graph):
        x, weight, bias = node.inputs
        scale = torch.tensor(plan[weight.name].scale, dtype=torch.float64)
        if (_tensor(weight).flatten(1).abs().amax(1).double() > (largest_weight + 0.5) * scale).any():
            yield f"{weight.name}: its weights exceed {largest_weight} times the scale"
        elif (_tensor(bias).abs().double() / (scale * plan[x.name].scale[0])).round().gt(BIAS_LIMIT).any():
            yield f"{weight.name}: {bias.name} exceeds 2^30 times the product of this scale and that of {x.name}"


# --- parameters -------------------------------------------------------------------------------------------------------
def activation_params(low: float, high: float) -> QuantParams:
    """int8 per tensor; zero is exact and both ends are inside (the scale is rounded up on the grid)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = fp16_grid((high - low) / LEVELS, up=True)
    zero_point = round(-128 - low / scale)
    return QuantParams((scale,), max(-128, min(127, zero_point)))


def symmetric_params(low: float, high: float, largest: int = LARGEST_WEIGHT) -> QuantParams:
    """int8 per tensor with zero point 0, for the second operand of a matmul."""
    return QuantParams((fp16_grid(max(-low, high, 0.0) / largest, up=True),), 0)


def weight_params(weight: Tensor, bias: Tensor, input_scale: float, largest: int = LARGEST_WEIGHT) -> QuantParams:
    """int8 symmetric per output channel in [-largest, largest]; wide enough for the bias to fit int32 at s_in * s_w.

    A channel whose weights are all one number (an average) gets the scale that comes nearest to it.
    """
    sizes = weight.detach().flatten(1).abs()
    fits_bias = bias.detach().abs().double() / (BIAS_LIMIT * input_scale)
    scales = [fp16_grid(s, up=True) for s in torch.maximum(sizes.amax(1).double() / largest, fits_bias).tolist()]
    for channel in ((sizes.amin(1) == sizes.amax(1)) & (sizes.amax(1) > 0)).nonzero().flatten().tolist():
        (nearest,) = constant_params(sizes[channel, :1], largest).scale
        scales[channel] = max(nearest, fp16_grid(float(fits_bias[channel]), up=True))
    return QuantParams(tuple(scales), 0, axis=0)


def constant_params(constant: Tensor, largest: int = LARGEST_WEIGHT) -> QuantParams:
    """int8 per tensor for a constant operand. One number gets the pair (code, scale) that comes nearest to it."""
    if constant.numel() > 1:
        return activation_params(float(constant.min()), float(constant.max()))
    number = float(constant)
    if number == 0:
        return QuantParams((fp16_grid(1 / 128),), 0)
    codes = range((largest + 1) // 2, largest + 1)
    best = min(codes, key=lambda code: abs(code * fp16_grid(abs(number) / code) - abs(number)))
    return QuantParams((fp16_grid(abs(number) / best),), 0)


def _group_params(graph: Graph, group: list[Value], ranges: Ranges, largest_weight: int) -> Plan:
    fixed = {v.producer.op.fixed for v in group if v.producer and v.producer.op.scale is Scale.FIXED}
    if fixed:
        (params,) = fixed
        assert params is not None
        return {v.name: params for v in group}
    found = dict(known for v in group if (known := _known_range(v, ranges)))
    if not found:
        raise DataError(f"no range for {group[0].name}", try_="calibrate again (leave --plan out)")
    _refuse_wide_joins(graph, group, found)
    low, high = min(low for low, _ in found.values()), max(high for _, high in found.values())
    if high - low > LEVELS * LARGEST_SCALE:
        raise AccuracyError(
            f"{group[0].name} spans [{low:.4g}, {high:.4g}]: too wide for int8",
            where=[str(v.producer.source) for v in group[:1] if v.producer],
            why=f"one step would be {(high - low) / LEVELS:.4g}; scales are float16, at most {LARGEST_SCALE:.0f}",
            try_="check weights and preprocessing: activations this large are rarely meant",
        )
    right = any(map(multiplies_right, group))
    params = symmetric_params(low, high, largest_weight) if right else activation_params(low, high)
    return {v.name: params for v in group}


def _known_range(value: Value, ranges: Ranges) -> tuple[str, tuple[float, float]] | None:
    """What brings a range of its own into a group, and that range: observed, given, a constant's or a pad's."""
    node = value.producer
    if value.const is not None:
        return value.name, (float(value.const.min()), float(value.const.max()))
    if value.name in ranges:
        return value.name, ranges[value.name]
    if node is None:
        return None
    if node.op.fixed:
        return value.name, node.op.fixed.range
    if node.op.name == "quantize":
        return node.inputs[0].name, _reach(node.inputs[0], ranges)
    if node.op.name == "pad" and math.isfinite(fill := node.attrs["value"]):
        return value.name, (fill, fill)
    return None


def _reach(value: Value, ranges: Ranges) -> tuple[float, float]:
    """The range of a value that same-scale ops may have made."""
    known = _known_range(value, ranges)
    found = [known[1]] if known else []
    found += [ranges[codes] for codes in _codes_of(value) if codes in ranges]
    if value.producer and (value.producer.op.scale is Scale.SAME or value.producer.op.name == "dequantize"):
        found += [_reach(v, ranges) for v in value.producer.inputs]
    if not found:
        raise DataError(f"no range for {value.name}", try_="calibrate again (leave --plan out)")
    return min(low for low, _ in found), max(high for _, high in found)


def _codes_of(value: Value) -> list[str]:
    """The codes at an island's end have the name, and so the range, of the value that was there in float."""
    return [node.output.name for node in value.uses if node.op.name == "quantize"]


def _refuse_wide_joins(graph: Graph, group: list[Value], found: Ranges) -> None:
    """Boxes and scores that share one tensor share one scale, and the scores become 0 (DESIGN.md §3, trap 9).

    Features that a convolution reads are joined nevertheless: `guards.coarse_values` warns of them.
    Codes always reach zero, so a range is as wide as it is with zero in it. A pad's value may be narrower than the
    tensor around it: it comes back within half a step, as any element does.
    """
    widths = {name: max(high, 0.0) - min(low, 0.0) for name, (low, high) in found.items() if low < 0 or high > 0}
    fills = {v.name for v in group if v.producer and v.producer.op.name == "pad"}
    wide = max(widths, key=lambda n: widths[n], default="")
    narrow = min(widths.keys() - fills, key=lambda n: (widths[n], n), default=wide)
    if not widths or widths[wide] <= MOST_JOINED * widths[narrow]:
        return
    if wide not in fills and not ends_outside(graph, group):
        return
    kinds = ("pad",) if wide in fills else ("concat", "maximum")
    joins = [v.producer for v in group if v.producer and v.producer.op.name in kinds]
    kind = joins[0].op.name
    raise AccuracyError(
        f"a {kind} would join ranges {widths[wide] / widths[narrow]:.0f}x apart in one int8 tensor",
        where=[*dict.fromkeys(f"{node.op.name}  {node.source}" for node in joins)]
        + [f"{name}  [{found[name][0]:.4g}, {found[name][1]:.4g}]" for name in (narrow, wide)],
        why=f"they would share one scale: {narrow} keeps {max(1, round(255 * widths[narrow] / widths[wide]))} of 256 "
        f"codes (the limit is {MOST_JOINED:.0f}x)",
        try_="pad with a value of the tensor's own range (-inf ahead of a max pool)"
        if kind == "pad"
        else (
            "return the tensors as separate outputs, and join them in the app",
            "or keep what follows in float: x = exporter.build.postprocess.float_tail(x) on each head's output",
        ),
    )


def _widen(graph: Graph, plan: Plan, groups: list[list[Value]]) -> None:
    """Coarsen outputs whose scale is so fine that the runtime's requantisation factor would reach 256.

    There XNNPACK refuses the op and the builtin kernels wrap around. It takes a nearly constant output to get there.
    A wider scale at the same zero point holds the same range.
    """
    group_of = {v.name: group for group in groups for v in group}
    for node in integer_nodes(graph):
        if node.op.scale is not Scale.FREE or node.op.name in NOT_RESCALED:
            continue
        scales = [max(plan[v.name].scale) for v in node.inputs if v.name in plan]
        factor = math.prod(scales) if node.op.name in PRODUCTS else max(scales)
        params = plan[node.output.name]
        if factor >= MOST_RESCALED * params.scale[0]:
            wider = QuantParams((fp16_grid(factor / MOST_RESCALED, up=True),), params.zero_point)
            plan.update({v.name: wider for v in group_of[node.output.name]})


# --- structure --------------------------------------------------------------------------------------------------------
def _quantised_values(graph: Graph) -> Iterable[Value]:
    """Activations that carry codes: graph inputs, results of integer nodes and of quantize."""
    yield from graph.inputs
    integer = set(integer_nodes(graph))
    for node in graph.nodes:
        if node in integer or node.op.name == "quantize":
            yield from node.outputs


def _constants(graph: Graph) -> Iterable[Value]:
    """Weights and constant operands of integer nodes. Biases are derived."""
    for node in integer_nodes(graph):
        yield from (v for v in node.inputs[: 2 if node.op.data_inputs == 1 else None] if v.const is not None)


def _weighted(graph: Graph) -> list[Node]:
    """Integer nodes with a weight and a bias."""
    return [node for node in integer_nodes(graph) if node.op.data_inputs == 1]


def _groups(graph: Graph) -> list[list[Value]]:
    """Values that must share parameters: what same-scale ops connect."""
    parent: dict[int, int] = {}

    def root(key: int) -> int:
        while (above := parent.get(key, key)) != key:
            key = above
        return key

    values = list(_quantised_values(graph))
    for node in integer_nodes(graph):
        if node.op.scale is Scale.SAME:
            values += [v for v in node.inputs if v.const is not None]
            for value in node.inputs:
                parent[root(id(value))] = root(id(node.output))
    groups: dict[int, list[Value]] = {}
    for value in values:
        groups.setdefault(root(id(value)), []).append(value)
    return list(groups.values())


def _tensor(value: Value) -> Tensor:
    assert value.const is not None
    return value.const


def _coded(graph: Graph, value: Value, params: QuantParams) -> Value:
    codes = params.quantize(_tensor(value))
    if params.axis is not None:
        codes = codes.clamp(min=-127)
    return Value(value.name, value.shape, value.dtype, codes, params)


def _derive_bias(graph: Graph, node: Node) -> None:
    """int32 at s_in * s_w, zero point 0: exact products, since both factors lie on the float16 grid."""
    x, weight, bias = node.inputs
    assert x.quant is not None
    assert weight.quant is not None
    scale = tuple(derived_scale(x.quant.scale[0], s) for s in weight.quant.scale)
    codes = (_tensor(bias).double() / torch.tensor(scale, dtype=torch.float64)).round()
    codes = codes.clamp(-math.ldexp(1, 31), math.ldexp(1, 31) - 1).to(torch.int32)
    params = QuantParams(scale, 0, axis=0, dtype="int32")
    graph.set_input(node, 2, Value(graph.unique(bias.name), bias.shape, bias.dtype, codes, params))
