"""Where an int8 graph loses accuracy: the error that each layer adds by itself, and what that does to the outputs.

A layer's **own error** is its integer result, on the float model's activations in codes, less its float result on the
same codes: rounded weights, clipped and rounded results, integer arithmetic; not the rounding of what it reads, which
is the own error of the layers that made it. What own error e of a layer does to the outputs is |J·e|², J the Jacobian
of the outputs by its result in the float model. One backward pass of random signs r over the outputs gives (rᵀJ·e)² of
every layer at once, whose mean over r is |J·e|²: *estimated* from `probes` passes a sample (16 and two samples: one
standard deviation is 1 dB). For the layers of most effect it is *measured*: e is put into the float model and the
outputs are compared. Errors are taken as uncorrelated and small, so effects add up to the output error only nearly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from exporter.ir.graph import Graph, Value
from exporter.ir.run import Interpreter
from exporter.ir.tail import without_tail
from exporter.quantize.layers import Layer, Twin
from exporter.quantize.localization import LayerError, Localization, decibels

Feeds = Sequence[Sequence[Tensor]]


def localize(
    float_graph: Graph,
    int8_graph: Graph,
    feeds: Feeds,
    *,
    keep_float: Sequence[str] = (),
    probes: int = 16,
    measured: int = 10,
    progress: Callable[[int], None] = lambda done: None,
) -> Localization:
    """Own error, inherited error and effect of every layer of `int8_graph`, up to a float tail.

    `float_graph` is the simplified graph that `quantize` was given, with `keep_float`; `feeds` are samples of float32
    inputs. The `measured` layers of most effect are measured, the others estimated. Signs are seeded: the result is the
    same on every run. Memory: four times the activations of one sample in float. `progress` counts up to
    `steps(len(feeds), probes)`.
    """
    twin = Twin(float_graph, int8_graph, keep_float)
    meters = {layer.value.name: _Meter(twin, layer) for layer in twin.layers}
    outputs, plain, done = _Outputs(twin.int8), Interpreter(without_tail(float_graph)), 0
    for feed in feeds:
        outputs.add_reference(plain.run(feed))
        progress(done := done + 1)
    signs = torch.Generator().manual_seed(0)
    for feed in feeds:
        run = _FloatRun(twin, feed, gradients=True)
        outputs.add_result(run.outputs, _run_int8(twin, feed, run.values, meters))
        errors = {name: parts for name, meter in meters.items() if (parts := meter.add(run.values)) is not None}
        progress(done := done + 1)
        for _ in range(probes):
            for name, (by_own, by_weights) in run.probe(errors, outputs.scales, signs).items():
                meters[name].add_probe(by_own**2 / probes, by_weights**2 / probes)
            progress(done := done + 1)
    rows = {name: meter.row(outputs) for name, meter in meters.items()}
    worst = [row.value for row in _ranked(rows.values())[:measured] if row.effect > 0]
    power = dict.fromkeys(worst, 0.0)
    for feed in feeds:
        run = _FloatRun(twin, feed)
        for name in worst:
            own, _ = twin.own_error(meters[name].layer, run.values)
            power[name] += outputs.normalised(run.with_error(name, own), run.outputs)
        progress(done := done + 1)
    for name, found in power.items():
        share = outputs.share(found)
        weights = rows[name].weights_effect / rows[name].effect * share
        rows[name] = replace(rows[name], effect=share, weights_effect=weights, measured=True)
    coded = frozenset(twin.name(v) for v in twin.int8.outputs if v.quant is not None)
    names = [v.name for v in twin.int8.outputs] if int8_graph.tail() else int8_graph.output_names
    return Localization(tuple(_ranked(rows.values())), tuple(rows), outputs.snr(names), coded)


def measured_snr(float_graph: Graph, int8_graph: Graph, feeds: Feeds) -> float:
    """dB of the outputs, as `Localization.output_snr`."""
    floats, int8 = without_tail(float_graph), without_tail(int8_graph)
    outputs, run, run_int8 = _Outputs(int8), Interpreter(floats), Interpreter(int8)
    for feed in feeds:
        expected = run.run(feed)
        outputs.add_reference(expected)
        outputs.add_result(expected, run_int8.run(_codes(int8, feed)))
    return decibels(1.0, outputs.error)


def steps(feeds: int, probes: int = 16) -> int:
    """How far the `progress` of `localize` counts."""
    return feeds * (probes + 3)


class _FloatRun:
    """The float graph on one sample, every value kept; with `gradients`, what backward passes need too."""

    def __init__(self, twin: Twin, feed: Sequence[Tensor], *, gradients: bool = False) -> None:
        self._graph = twin.float
        self._traced: dict[str, Tensor] = {}
        with torch.set_grad_enabled(gradients):
            for value, x in zip(self._graph.inputs, feed, strict=True):
                self._traced[value.name] = x.detach().clone().requires_grad_(gradients)
            for node in self._graph.nodes:
                results = _run(node.op.run, [self._read(v, self._traced) for v in node.inputs], node.attrs)
                self._traced.update(zip((v.name for v in node.outputs), results, strict=True))
        self.values = {name: tensor.detach() for name, tensor in self._traced.items()}
        self.outputs = [self._read(v, self.values) for v in self._graph.outputs]

    def probe(
        self, errors: Mapping[str, tuple[Tensor, Tensor | None]], scales: Sequence[float], generator: torch.Generator
    ) -> dict[str, tuple[float, float]]:
        """Random signs of the outputs times the Jacobian times each error and its part by weights."""
        ends = [self._read(v, self._traced) for v in self._graph.outputs]
        signs = [
            scale * (2.0 * torch.randint(0, 2, end.shape, generator=generator) - 1)
            for end, scale in zip(ends, scales, strict=True)
        ]
        pairs = [(end, sign) for end, sign in zip(ends, signs, strict=True) if end.requires_grad]
        gradients = torch.autograd.grad(
            [end for end, _ in pairs],
            [self._traced[name] for name in errors],
            [sign for _, sign in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        found = {}
        for (name, (own, weights)), gradient in zip(errors.items(), gradients, strict=True):
            if gradient is not None:
                finite = gradient.nan_to_num(0.0, 0.0, 0.0)  # a root at 0 has none
                found[name] = _dot(finite, own), 0.0 if weights is None else _dot(finite, weights)
        return found

    @torch.no_grad()
    def with_error(self, name: str, error: Tensor) -> list[Tensor]:
        """The outputs with `error` on one value: what depends on it runs again."""
        changed = {name: self.values[name] + error}
        for node in self._graph.nodes:
            if any(v.name in changed for v in node.inputs):
                given = [changed.get(v.name, self._read(v, self.values)) for v in node.inputs]
                results = _run(node.op.run, given, node.attrs)
                changed.update(zip((v.name for v in node.outputs), results, strict=True))
        return [changed.get(v.name, self._read(v, self.values)) for v in self._graph.outputs]

    def _read(self, value: Value, values: Mapping[str, Tensor]) -> Tensor:
        return value.const if value.const is not None else values[value.name]


class _Outputs:
    """Power of the outputs and of their errors, over the samples."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._power = [0.0] * len(graph.outputs)
        self._error = [0.0] * len(graph.outputs)

    def add_reference(self, outputs: Sequence[Tensor]) -> None:
        """Float outputs of one sample."""
        self._power = [power + _power(y) for power, y in zip(self._power, outputs, strict=True)]

    def add_result(self, outputs: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        """Float outputs and those of the int8 graph, of one sample."""
        for i, (value, y, given) in enumerate(zip(self._graph.outputs, outputs, results, strict=True)):
            self._error[i] += _power(y - (value.quant.dequantize(given) if value.quant else given))

    @property
    def scales(self) -> list[float]:
        """What makes the power of each output over all samples 1 / number of outputs; 0 of one that is all zeros."""
        return [1 / math.sqrt(power * len(self._power)) if power else 0.0 for power in self._power]

    def normalised(self, results: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
        """Power of what differs, in these units."""
        triples = zip(results, outputs, self.scales, strict=True)
        return sum(scale**2 * _power(result - y) for result, y, scale in triples)

    def share(self, power: float) -> float:
        """Of the error that the int8 graph's outputs have, in these units."""
        return power / self.error if self.error else 0.0

    @property
    def error(self) -> float:
        """Power of the int8 graph's error, in these units."""
        return sum(scale**2 * error for error, scale in zip(self._error, self.scales, strict=True))

    def snr(self, names: Sequence[str]) -> dict[str, float]:
        """dB of each."""
        return {name: decibels(p, e) for name, p, e in zip(names, self._power, self._error, strict=True)}


class _Meter:
    """One layer over the samples."""

    def __init__(self, twin: Twin, layer: Layer) -> None:
        self.twin, self.layer, self.name = twin, layer, twin.name(layer.value)
        self._signal = self._own = self._free = self._clipping = 0.0
        self._effect = self._weights_effect = 0.0
        self._clipped = self._count = 0
        self._low, self._high = math.inf, -math.inf
        self._widest: Tensor | None = None

    def add_free(self, error: Tensor) -> None:
        """What its result is off in a run of the int8 graph."""
        self._free += _power(error)

    def add(self, floats: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None] | None:
        """Take in one sample. Returns its own error and the weights' part; None where it has none."""
        y, quant = floats[self.name], self.layer.value.quant
        self._signal += _power(y)
        self._low, self._high = min(self._low, float(y.min())), max(self._high, float(y.max()))
        if y.dim() > 1:
            channels = y.detach().abs().transpose(0, 1 if y.dim() == 4 else -1).flatten(1).amax(1)
            self._widest = channels if self._widest is None else torch.maximum(self._widest, channels)
        if quant is None or self.layer.moves:
            return None
        own, weights = self.twin.own_error(self.layer, floats)
        self._own += _power(own)
        low, high = quant.range
        outside = (y < low - quant.scale[0] / 2) | (y > high + quant.scale[0] / 2)
        self._clipped, self._count = self._clipped + int(outside.sum()), self._count + y.numel()
        self._clipping += _power(own[outside])
        return own, weights

    def add_probe(self, own: float, weights: float) -> None:
        """Estimates of what the own error, and the weights' part of it, do to the outputs."""
        self._effect, self._weights_effect = self._effect + own, self._weights_effect + weights

    def row(self, outputs: _Outputs) -> LayerError:
        """Everything about the layer, its effect estimated."""
        nodes, quant = self.layer.nodes, self.layer.value.quant
        spanned = (min(self._high, quant.range[1]) - max(self._low, quant.range[0])) / quant.scale[0] if quant else 255
        median = float(self._widest.median()) if self._widest is not None else 0.0
        effect = outputs.share(self._effect)
        return LayerError(
            value=self.layer.value.name,
            op=self.twin.op(self.layer),
            source=nodes[-1].source,
            own_snr=decibels(self._signal, self._own),
            inherited_snr=decibels(self._signal, max(self._free - self._own, 0.0)),
            effect=effect,
            weights_effect=min(outputs.share(self._weights_effect), effect),
            measured=False,
            clipped=self._clipped / self._count if self._count else 0.0,
            clipping=self._clipping / self._own if self._own else 0.0,
            codes=max(1, min(256, round(spanned) + 1)),
            spread=max(abs(self._low), abs(self._high)) / median if median else 1.0,
            readers=self.layer.readers,
            moves=self.layer.moves,
        )


def _run_int8(
    twin: Twin, feed: Sequence[Tensor], floats: Mapping[str, Tensor], meters: Mapping[str, _Meter]
) -> list[Tensor]:
    """The int8 graph free-running: outputs, and every layer's error on the way."""

    def tap(value: Value, tensor: Tensor) -> None:
        if (meter := meters.get(value.name)) is not None:
            meter.add_free((value.quant.dequantize(tensor) if value.quant else tensor) - floats[meter.name])

    return Interpreter(twin.int8).run(_codes(twin.int8, feed), tap)


def _codes(graph: Graph, feed: Sequence[Tensor]) -> list[Tensor]:
    return [v.quant.quantize(x) if v.quant else x for v, x in zip(graph.inputs, feed, strict=True)]


def _run(meaning: Callable[..., object], operands: Sequence[Tensor], attrs: Mapping[str, object]) -> tuple[Tensor, ...]:
    result = meaning(*operands, **attrs)
    return result if isinstance(result, tuple) else (result,)  # type: ignore[return-value]


def _ranked(rows: Iterable[LayerError]) -> list[LayerError]:
    return sorted(rows, key=lambda row: -row.effect)


def _power(x: Tensor) -> float:
    return float(x.double().square().sum())


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())
