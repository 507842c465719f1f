"""Warnings of calibration data that looks wrong: not normalised as the model expects, of one colour, or repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from exporter.ir.graph import Graph
from exporter.quantize.preprocess import Preprocess

BATCHNORM_SAMPLES = 8
LEAST_SPREAD, MOST_SPREAD = 0.6, 5.0
"""Of the first BatchNorm's input around the running mean, in running standard deviations: natural pictures and blood
cells have 0.8 to 1.2; the same in 0..1 or -1..1 where ImageNet's mean and deviation are meant 0.3 to 0.55, in 0..255
over 90.
"""
FLAT = 0.01
"""Of the largest value of the whole set: a channel that varies less is of one colour; 1.5 levels of a picture."""
MOST_ODD = 0.1
"""Share of the samples that may be of one colour, or repeat another."""


class Watch:
    """Looks at samples as they pass to calibration."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self._deviations: list[float] = []
        self._digests: list[bytes] = []

    def over(self, samples: Iterable[Sequence[Tensor]]) -> Iterator[Sequence[Tensor]]:
        """The same samples."""
        for sample in samples:
            digest = hashlib.blake2b(digest_size=16)
            for x in sample:
                digest.update(x.numpy().tobytes())
                low, high = torch.aminmax(x)
                self.low, self.high = min(self.low, low.item()), max(self.high, high.item())
            self._deviations.append(max(_deviation(x) for x in sample))
            self._digests.append(digest.digest())
            yield sample

    def warnings(self, names: Sequence[str], preprocess: Preprocess | None) -> list[str]:
        """`names` are the samples'; `preprocess` is what arrays should have gone through, None where that is unknown
        or was done by us."""
        return [*self._range(preprocess), *self._flat(names), *self._repeated(names)]

    def _range(self, preprocess: Preprocess | None) -> list[str]:
        if preprocess is None:
            return []
        pairs = list(zip(preprocess.mean, preprocess.std, strict=True))
        least, most = min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)
        beyond = self.low < 2 * least or self.high > 2 * most
        if not beyond and not (self.low >= 0 and least < -0.5):
            return []
        spans = f"its values span [{self.low:.4g}, {self.high:.4g}]"
        meant = f"pictures less mean {list(preprocess.mean)} by std {list(preprocess.std)}"
        return [f"calibration data looks un-normalised: {spans}, and {meant} span [{least:.3g}, {most:.3g}]"]

    def _flat(self, names: Sequence[str]) -> list[str]:
        limit = FLAT * max(-self.low, self.high)
        flat = [name for name, deviation in zip(names, self._deviations, strict=False) if deviation <= limit]
        if len(flat) <= MOST_ODD * len(self._deviations):
            return []
        counted = f"{len(flat)} of {len(self._deviations)} calibration samples are of one colour"
        return [f"{counted} ({_some(flat)}): ranges come from the others alone"]

    def _repeated(self, names: Sequence[str]) -> list[str]:
        first: dict[bytes, str] = {}
        pairs = zip(names, self._digests, strict=False)
        again = [f"{name} = {before}" for name, d in pairs if (before := first.setdefault(d, name)) != name]
        if len(again) <= MOST_ODD * len(self._digests):
            return []
        counted = f"{len(again)} of {len(self._digests)} calibration samples repeat another"
        return [f"{counted} ({_some(again)}): they add nothing to the ranges"]


def batchnorm_warnings(module: nn.Module, samples: Iterable[Sequence[Tensor]], graph: Graph) -> list[str]:
    """A warning where what reaches the first BatchNorm spreads otherwise than what its running statistics were taken
    from; none without BatchNorm, or before it was trained. `samples` are float32 [1, ...], the first few are used.
    """
    inputs: list[Tensor] = []
    names = {part: name for name, part in module.named_modules() if _is_trained(part)}
    first: list[nn.Module] = []

    def stop(part: nn.Module, given: tuple[Tensor, ...]) -> None:
        first.append(part)
        inputs.append(given[0].detach().double())
        raise _Seen

    hooks = [part.register_forward_pre_hook(stop) for part in names]
    try:
        for sample in islice(samples, BATCHNORM_SAMPLES) if names else ():
            try:
                with torch.no_grad():
                    module(*(x.clone() for x in sample))
            except _Seen:
                pass
    finally:
        for hook in hooks:
            hook.remove()
    if not inputs:
        return []
    batchnorm, path = first[0], names[first[0]].removeprefix("detector.")
    spread = _spread(batchnorm, inputs)
    if LEAST_SPREAD <= spread <= MOST_SPREAD:
        return []
    found = f"at the first BatchNorm, {_place(graph, path)}, it spreads {spread:.2g} times as far"
    check = "Check mean, std and the range of pixels (0..1 or 0..255)"
    return [f"calibration data looks un-normalised: {found} as what the weights were trained on. {check}"]


def _place(graph: Graph, path: str) -> str:
    """The module's path with its line, or that of its neighbour into which it was folded."""
    sources = [node.source for node in graph.nodes if node.source.file]
    beside = path.rpartition(".")[0]
    own = next((s for s in sources if s.module == path), None)
    near = own or next((s for s in sources if s.module.startswith(beside)), None)
    return f"{path} ({near.file}:{near.line})" if near else path


class _Seen(Exception):
    """Ends a forward pass where all that is wanted is known."""


def _is_trained(part: nn.Module) -> bool:
    """Whether it normalises with running statistics that are no longer the initial ones."""
    mean, var = getattr(part, "running_mean", None), getattr(part, "running_var", None)
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return False
    return bool((mean != 0).any() or (var != 1).any())


def _spread(batchnorm: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Root mean square distance from the running mean in running deviations, median over the channels."""
    mean, var = batchnorm.get_buffer("running_mean").double(), batchnorm.get_buffer("running_var").double()
    eps = float(getattr(batchnorm, "eps", 0.0))
    shape = [1, -1, *[1] * (inputs[0].dim() - 2)]
    axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
    squares = torch.stack([(x - mean.reshape(shape)).pow(2).mean(axes) for x in inputs]).mean(0)
    return float((squares / (var + eps)).sqrt().median())


def _deviation(x: Tensor) -> float:
    """Largest standard deviation of a channel. What equals the last corner is left out: padding."""
    if x.dim() != 4:
        return float(x.std(correction=0))
    pixels = x[0].flatten(1)
    seen = pixels[:, (pixels != pixels[:, -1:]).any(0)]
    return float(seen.std(1, correction=0).max()) if seen.shape[1] else 0.0


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join([*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])])
