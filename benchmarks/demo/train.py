"""Train demo weights: python -m benchmarks.demo.train MODEL --out FILE.safetensors

One loop for every task: AdamW, warm-up and cosine, an average of the weights over the steps; towards the end BatchNorm
statistics, refitted to training pictures, stay as they are. Batch n of a seed is always the same; an interrupted run
goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.demo.classification import Classification
from benchmarks.demo.detection import Detection
from benchmarks.demo.lesson import Lesson
from benchmarks.demo.pose import Pose
from benchmarks.demo.scenes import CLASSES, THINGS
from exporter.build import build_model, refit_batchnorm
from exporter.build.litehrnet import LiteHRNet, initialise_fusion

AVERAGED = 0.998
"""Decay of the average of the weights, per step."""
WARM_UP = 0.04
"""Share of the steps over which the learning rate rises."""
REFIT = 512
"""Pictures that BatchNorm statistics are refitted to."""
DECAY = 0.02
"""AdamW's weight decay."""
REPORT = 200
"""Steps from one line, and one checkpoint, to the next."""


@dataclass(frozen=True)
class Stage:
    """So many batches at one input size."""

    size: tuple[int, int]
    pictures: int
    steps: int
    batch: int
    rate: float
    frozen: float = 0.7
    """Share of the steps behind which BatchNorm statistics stay. A batch tames its own outliers, such as a picture much
    brighter than the others; one picture alone does not, and the network has to learn to live without."""


def ready(model: nn.Module) -> nn.Module:
    """The network as training starts it: BatchNorms that neither shift nor scale."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.momentum = 0.1
    if isinstance(model, LiteHRNet):
        initialise_fusion(model.backbone)  # its first channel would double in every module
    return model.requires_grad_(True).to(memory_format=torch.channels_last)


def groups(model: nn.Module) -> list[dict[str, object]]:
    """Weights decay; biases, BatchNorms and fusion weights do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def fit(
    model: nn.Module, lesson: Lesson, stage: Stage, seed: int, checkpoint: Path, compiled: bool = False
) -> nn.Module:
    """Train `model` for a stage -> its average over the steps, in eval mode."""
    steps, size, rate = stage.steps, stage.batch, stage.rate
    frozen = int(stage.frozen * steps)
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(groups(model), lr=rate, betas=(0.9, 0.99))
    network = torch.compile(model) if compiled else model
    first = 0
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(kept["model"])
        average.load_state_dict(kept["average"])
        optimiser.load_state_dict(kept["optimiser"])
        first = kept["step"]
    losses: list[float] = []
    since = time.perf_counter()
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step / steps)
        if step == frozen:
            refit_batchnorm(model, _pictures(lesson, size))
            average.load_state_dict(model.state_dict())
        training(model, frozen=step >= frozen)
        pictures, truth = lesson.batch(np.random.default_rng([9, seed, step]), size)
        loss = lesson.loss(network(pictures.to(memory_format=torch.channels_last)), truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        follow(average, model, min(AVERAGED, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if (step + 1) % REPORT == 0 or step + 1 == steps:
            spent = (time.perf_counter() - since) / len(losses)
            state = {"model": model.state_dict(), "average": average.state_dict()}
            torch.save(
                {**state, "optimiser": optimiser.state_dict(), "step": step + 1}, checkpoint.with_suffix(".part")
            )
            checkpoint.with_suffix(".part").replace(checkpoint)
            shown = f"loss {np.mean(losses):.4f}  {spent * 1e3:.0f} ms a step"
            if (step + 1) % (5 * REPORT) == 0:
                shown += "  " + lesson.score(finished(average, lesson, size, refit=step < frozen))
            say(f"{time.strftime('%H:%M:%S')} step {step + 1} of {steps}  {shown}")
            losses, since = [], time.perf_counter()
    return finished(average, lesson, size, refit=steps <= frozen)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average a step towards the model."""
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def schedule(done: float) -> float:
    """The learning rate at that share of the steps, as a share of its peak: up in a line, down in a cosine."""
    if done < WARM_UP:
        return 0.05 + 0.95 * done / WARM_UP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def training(model: nn.Module, frozen: bool) -> None:
    """Training mode; with `frozen` BatchNorms normalise by their statistics, which stay, and not by the batch's."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and frozen:
            module.eval()


def finished(average: nn.Module, lesson: Lesson, size: int, refit: bool) -> nn.Module:
    """A copy of the averaged model in eval mode, with `refit` BatchNorms that fit it."""
    model = copy.deepcopy(average).eval()
    if refit:
        refit_batchnorm(model, _pictures(lesson, size))
    return model


def _pictures(lesson: Lesson, size: int) -> Iterator[Tensor]:
    for number in range(REFIT // size):
        yield lesson.batch(np.random.default_rng([10, number]), size)[0]


def save(model: nn.Module, path: Path) -> None:
    """The weights as safetensors in float16; what it cannot hold, such as a variance beyond 65504, in float32."""
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file({name: compact(value).contiguous() for name, value in state.items()}, path)


def compact(value: Tensor) -> Tensor:
    """As float16 where that is precise to a thousandth, or to a millionth in all."""
    half = value.half()
    return half if torch.allclose(half.float(), value, rtol=1e-3, atol=1e-6) else value


@dataclass(frozen=True)
class Course:
    """What a network is trained on, in which stages."""

    lesson: type[Lesson]
    classes: int
    stages: tuple[Stage, ...]
    history: str = ""
    """In what the weights that come with the project were trained otherwise."""


COURSES = {
    "efficientdet_d0": Course(
        Detection,
        len(THINGS),
        (Stage((128, 128), 14000, 2500, 16, 2e-3, 1.0), Stage((256, 256), 2000, 350, 8, 7e-4, 0.0)),
        "The first 800 steps of these weights followed the rates of a stage of 3600 steps.",
    ),
    "fasternet_t0": Course(
        Classification,
        len(CLASSES),
        (Stage((96, 96), 16000, 3200, 16, 8e-4), Stage((96, 96), 16000, 1800, 16, 8e-4, 0.3)),
    ),
    "csppeleenet": Course(
        Classification,
        len(CLASSES),
        (Stage((96, 96), 16000, 2000, 16, 1e-3, 1.0), Stage((96, 96), 16000, 1400, 16, 1e-3, 0.3)),
    ),
    "litehrnet_18": Course(
        Pose,
        17,
        (Stage((128, 96), 8000, 1700, 16, 2e-3, 0.75), Stage((128, 96), 3000, 300, 16, 7e-4, 0.0)),
        "The first 800 steps of these weights followed the rates of a stage of 2000 steps, and the first channel of "
        "the first branch, which doubles in every module, was set to zero behind stage 1, not before it.",
    ),
}


def averaged(checkpoint: Path, steps: int) -> dict[str, Tensor] | None:
    """The averaged weights of a stage that has been through all its steps; else None."""
    kept = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else {"step": 0}
    return kept["average"] if kept["step"] == steps else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo.train", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(COURSES))
    parser.add_argument("--out", type=Path, required=True, help="weights to write; checkpoints go beside it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", type=int, help="only the first so many")
    parser.add_argument("--compile", action="store_true", help="torch.compile: needs a C++ compiler")
    given = parser.parse_args()
    torch.set_num_threads(1)
    course = COURSES[given.model]
    weights = None
    for number, stage in enumerate(course.stages[: given.stages]):
        checkpoint = given.out.with_suffix(f".{number}.pt")
        if number + 1 < len(course.stages) and (done := averaged(checkpoint, stage.steps)):
            weights = done
            continue
        model = build_model(given.model, stage.size, course.classes)
        lesson = course.lesson(model, stage.size, stage.pictures)
        model = ready(model)
        if weights:
            model.load_state_dict(weights)
        say(f"stage {number + 1}: {stage}")
        model = fit(model, lesson, stage, given.seed, checkpoint, given.compile)
        say(lesson.score(model))
        weights = model.state_dict()
        save(model, given.out)


if __name__ == "__main__":
    main()
