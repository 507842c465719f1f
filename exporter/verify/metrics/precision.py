"""COCO's average precision, by pycocotools, image by image; and the same for images drawn with replacement.

Source: https://cocodataset.org/#detection-eval: IoU or OKS of 0.50, 0.55, …, 0.95, precision at 101 recalls. Sizes of
objects are not told apart.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any, Literal

import numpy as np

from exporter.errors import RuntimeUnavailable

NAMES: tuple[str, ...] = ("AP", "AP50", "AP75")
AT_50, AT_75 = 0, 5
"""Places of these thresholds among pycocotools' ten."""
MOST = {"bbox": 100, "keypoints": 20}
"""Detections of an image and category that count, best first: COCO's own limits."""
Kind = Literal["bbox", "keypoints"]
Entries = Sequence[Mapping[str, Any]]


def load_pycocotools() -> tuple[Any, Any]:
    """The classes COCO and COCOeval. Raises RuntimeUnavailable where they are not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise RuntimeUnavailable(
            "pycocotools is not installed, which computes COCO's average precision",
            why=str(error),
            try_='pip install "edge-export[eval]"',
        ) from error
    return COCO, COCOeval


class AveragePrecision:
    """AP, AP50 and AP75 over `images` images, counted from 0, and the categories of these ids."""

    def __init__(
        self, images: int, categories: Sequence[int], kind: Kind = "bbox", sigmas: Sequence[float] = ()
    ) -> None:
        self._coco, self._evaluator = load_pycocotools()
        self.images, self.categories = images, sorted(categories)
        self._kind, self._sigmas = kind, sigmas
        self._recalls: np.ndarray = self._evaluator(iouType=kind).params.recThrs
        self._judged: dict[int, list[Any]] = {}
        """Image -> for each category what pycocotools found; kept small."""

    def add(self, image: int, labelled: Entries, found: Entries) -> None:
        """One image's annotations and results in COCO's own keys, `category_id` among the categories. Its ids are
        given here.
        """
        evaluator = self._evaluated([image], labelled, found)
        self._judged[image] = [entry and _small(entry) for entry in evaluator.evalImgs]
        self.__dict__.pop("_figures", None)
        self.__dict__.pop("_ranked", None)

    def values(self, weights: np.ndarray | None = None) -> np.ndarray:
        """pycocotools' own figures; with `weights` [images] those of images that count so often. NaN: no label."""
        return self._figures if weights is None else _means(self._weighted(weights))

    @cached_property
    def _figures(self) -> np.ndarray:
        evaluator = self._evaluated(range(self.images), [], [])
        none: list[Any] = [None] * len(self.categories)
        judged = [self._judged.get(image, none) for image in range(self.images)]
        evaluator.evalImgs = [entries[k] for k in range(len(self.categories)) for entries in judged]
        with redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        precision = evaluator.eval["precision"][:, :, :, 0, 0].transpose(2, 0, 1)  # [categories, thresholds, recalls]
        return _means(precision[(precision > -1).all((1, 2))].mean(-1))

    def _evaluated(self, images: Sequence[int], labelled: Entries, found: Entries) -> Any:
        with redirect_stdout(io.StringIO()):
            sides = (self._index(images, labelled), self._index(images, found))
            evaluator = self._evaluator(*sides, self._kind)
            params = evaluator.params
            params.imgIds, params.catIds = [image + 1 for image in images], self.categories
            params.areaRng, params.areaRngLbl, params.maxDets = params.areaRng[:1], ["all"], [MOST[self._kind]]
            if len(self._sigmas):
                params.kpt_oks_sigmas = np.array(self._sigmas)
            evaluator.evaluate()
        return evaluator

    def _index(self, images: Sequence[int], entries: Entries) -> Any:
        """pycocotools takes an id of 0 for no match: they begin at 1."""
        coco = self._coco()
        coco.dataset = {
            "images": [{"id": image + 1} for image in images],
            "categories": [{"id": category} for category in self.categories],
            "annotations": [{**e, "id": number, "image_id": images[0] + 1} for number, e in enumerate(entries, 1)],
        }
        coco.createIndex()
        return coco

    @cached_property
    def _ranked(self) -> list[_Ranked]:
        """One for each category."""
        found = []
        for k in range(len(self.categories)):
            entries = [(image, e[k]) for image, e in sorted(self._judged.items()) if e[k] is not None]
            labels = np.zeros(self.images)
            for image, entry in entries:
                labels[image] = (~entry["gtIgnore"]).sum()
            order = np.argsort(-_joined([e["dtScores"] for _, e in entries]), kind="stable")
            images = _joined([np.full(len(e["dtScores"]), image) for image, e in entries])[order].astype(int)
            matched, ignored = (
                np.concatenate([np.zeros((10, 0), bool), *(e[key] for _, e in entries)], 1)[:, order]
                for key in ("dtMatches", "dtIgnore")
            )
            found.append(_Ranked(labels, images, matched, ignored))
        return found

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        """Average precision [categories, thresholds] of the categories that have labels."""
        labelled = [ranked for ranked in self._ranked if ranked.labels @ weights]
        return np.array([ranked.areas(weights, self._recalls) for ranked in labelled]).reshape(-1, 10)


class _Ranked:
    """The detections of one category over all images, best first. Precision only rises where one is right, so what is
    kept for each threshold is where these are, and how many ignored ones are ahead of each.
    """

    def __init__(self, labels: np.ndarray, images: np.ndarray, matched: np.ndarray, ignored: np.ndarray) -> None:
        self.labels, self._images = labels, images
        self._right = [np.flatnonzero(row) for row in matched & ~ignored]
        self._ignored = [np.flatnonzero(row) for row in ignored]
        self._ahead = [np.searchsorted(i, r) for i, r in zip(self._ignored, self._right, strict=True)]

    def areas(self, weights: np.ndarray, recalls: np.ndarray) -> np.ndarray:
        """COCOeval.accumulate with each image counted so often: mean precision over `recalls`, [thresholds]."""
        counted = weights[self._images]
        so_far, labels = np.cumsum(counted), self.labels @ weights
        means = []
        for right, ignored, ahead in zip(self._right, self._ignored, self._ahead, strict=True):
            hits = np.cumsum(counted[right])
            not_judged = np.append(0, np.cumsum(counted[ignored]))[ahead]
            precision = hits / (so_far[right] - not_judged + np.spacing(1))
            falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)  # 0: a recall that is never reached
            means.append(falling[np.searchsorted(hits / labels, recalls, side="left")].mean())
        return np.array(means)


def _means(areas: np.ndarray) -> np.ndarray:
    """AP, AP50, AP75 of [categories, thresholds]."""
    if not len(areas):
        return np.full(3, np.nan)
    return np.array([areas.mean(), areas[:, AT_50].mean(), areas[:, AT_75].mean()])


def _small(entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What accumulation reads of an image's result, in as few bytes."""
    flags = {key: np.asarray(entry[key], bool) for key in ("dtMatches", "dtIgnore", "gtIgnore")}
    return {**flags, "dtScores": np.asarray(entry["dtScores"], float)}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])
