"""Marks drawn into a picture: boxes with labels, skeletons, bars of classes, coloured areas; and the same in words."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from exporter.build.pose import BONES
from exporter.verify.marks import LEAST_SCORE, Areas, Boxes, Classes, Joints, Marks

FINE = 2
"""Marks are drawn so many times as large as they are shown, which smooths their edges."""
MOST_TOLD = 4
"""Boxes that words name."""
_DARK, _LIGHT = (22, 26, 31), (255, 255, 255)
_ROW, _TEXT = 22, 13
"""Height of a line of classes, and of letters; in pixels as shown."""
_BONE = (255, 214, 10)

Colour = tuple[int, int, int]


def draw(picture: Image.Image, marks: Marks, labels: Sequence[str]) -> Image.Image:
    """A copy of `picture` (RGB, the network's whole input) with the marks in it; `labels` may be empty."""
    canvas = picture.resize((picture.width * FINE, picture.height * FINE), Image.Resampling.BICUBIC)
    if isinstance(marks, Areas):
        canvas = _painted(canvas, marks)
    else:
        pen = ImageDraw.Draw(canvas)
        if isinstance(marks, Boxes):
            _draw_boxes(pen, canvas.size, marks, labels)
        elif isinstance(marks, Joints):
            _draw_joints(pen, canvas.size, marks)
        else:
            canvas = _with_bars(canvas, marks, labels)
    width, height = canvas.width // FINE, canvas.height // FINE
    return canvas.resize((width, height), Image.Resampling.LANCZOS)


def in_words(marks: Marks, labels: Sequence[str]) -> str:
    """What was found, for those who cannot see it."""
    if isinstance(marks, Boxes):
        told = [f"{_label(box.number, labels)} {box.score:.2f}" for box in marks.found]
        more = f" and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
        return ", ".join(told[:MOST_TOLD]) + more or f"no box with a score of {LEAST_SCORE:g} or more"
    if isinstance(marks, Joints):
        return f"{len(marks.found)} of {marks.count} joints found"
    if isinstance(marks, Classes):
        return ", ".join(f"{_label(found.number, labels)} {found.score:.1%}" for found in marks.found)
    numbers, counts = np.unique(marks.numbers, return_counts=True)
    most = sorted(zip(counts.tolist(), numbers.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))[:3]
    return ", ".join(f"{_label(number, labels)} {count / marks.numbers.size:.0%}" for count, number in most)


def _draw_boxes(pen: ImageDraw.ImageDraw, size: tuple[int, int], marks: Boxes, labels: Sequence[str]) -> None:
    """Best last, on top of the others; labels on top of all boxes."""
    if not marks.found:
        _tag(pen, (4 * FINE, 4 * FINE), f"nothing above {LEAST_SCORE:g}", _DARK, size)
    rows = []
    for box in reversed(marks.found):
        x0, y0, x1, y1 = (part * side for part, side in zip(box.corners, size * 2, strict=True))
        if x0 <= x1 and y0 <= y1:
            rows.append((box, (x0, y0, x1, y1)))
    for box, (x0, y0, x1, y1) in rows:
        pen.rectangle((x0 - FINE, y0 - FINE, x1 + FINE, y1 + FINE), outline=_DARK, width=5 * FINE)
        pen.rectangle((x0, y0, x1, y1), outline=_colour(box.number), width=3 * FINE)
    for box, (x0, y0, _, _) in rows:
        above = y0 - (_TEXT + 5) * FINE
        corner = x0, above if above >= 0 else y0
        _tag(pen, corner, f"{_label(box.number, labels)} {box.score:.2f}", _colour(box.number), size)


def _draw_joints(pen: ImageDraw.ImageDraw, size: tuple[int, int], marks: Joints) -> None:
    """Bones where both ends were found; the surer a joint, the larger."""
    places = {joint.number: (joint.place[0] * size[0], joint.place[1] * size[1]) for joint in marks.found}
    if not places:
        _tag(pen, (4 * FINE, 4 * FINE), "no joint found", _DARK, size)
    bones = [bone for bone in BONES.get(marks.count, ()) if places.keys() >= set(bone)]
    for colour, width in ((_DARK, 5), (_BONE, 3)):
        for one, other in bones:
            pen.line((*places[one], *places[other]), fill=colour, width=width * FINE)
    for joint in marks.found:
        x, y = places[joint.number]
        radius = (2.5 + 2 * min(1.0, joint.score)) * FINE
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), _colour(joint.number), _DARK, FINE)


def _with_bars(canvas: Image.Image, marks: Classes, labels: Sequence[str]) -> Image.Image:
    """Lines below the picture: label, bar, probability."""
    row, edge = _ROW * FINE, 8 * FINE
    whole = Image.new("RGB", (canvas.width, canvas.height + len(marks.found) * row + edge), _DARK)
    whole.paste(canvas)
    pen = ImageDraw.Draw(whole)
    for i, found in enumerate(marks.found):
        top = canvas.height + edge // 2 + i * row
        longest = canvas.width - 2 * edge
        bar = (edge, top + 2 * FINE, edge + max(FINE, found.score * longest), top + row - 2 * FINE)
        pen.rounded_rectangle(bar, 3 * FINE, _muted(_colour(found.number)))
        share = f"{100 * found.score:.1f} %"
        right = canvas.width - edge - 4 * FINE
        pen.text((right, top + row / 2), share, _LIGHT, _font(), anchor="rm")
        room = longest - pen.textlength(share, _font()) - 20 * FINE
        pen.text(
            (edge + 5 * FINE, top + row / 2), _fitted(pen, _label(found.number, labels), room), _LIGHT, _font(), "lm"
        )
    return whole


def _painted(canvas: Image.Image, marks: Areas) -> Image.Image:
    numbers = np.unique(marks.numbers)
    colours = np.zeros((int(numbers.max()) + 1, 3), np.uint8)
    for number in numbers.tolist():
        colours[number] = _colour(number)
    paint = Image.fromarray(colours[marks.numbers]).resize(canvas.size, Image.Resampling.NEAREST)
    return Image.blend(canvas, paint, 0.5)


def _tag(
    pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: Colour, size: tuple[int, int]
) -> None:
    """Text on a plate whose left upper corner is there, moved inside where it would stick out."""
    text = _fitted(pen, text, size[0] - 8 * FINE)
    width, height = pen.textlength(text, _font()) + 8 * FINE, (_TEXT + 5) * FINE
    x, y = max(0.0, min(corner[0], size[0] - width)), max(0.0, min(corner[1], size[1] - height))
    pen.rectangle((x, y, x + width, y + height), colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((x + 4 * FINE, y + height / 2), text, _DARK if bright else _LIGHT, _font(), "lm")


def _fitted(pen: ImageDraw.ImageDraw, text: str, room: float) -> str:
    if pen.textlength(text, _font()) <= room:
        return text
    while text and pen.textlength(text + "…", _font()) > room:
        text = text[:-1]
    return text + "…"


def _label(number: int, labels: Sequence[str]) -> str:
    return labels[number] if 0 <= number < len(labels) else f"class {number}"


def _colour(number: int) -> Colour:
    """One for each class, those of neighbours far apart."""
    hue = (0.58 + number * 0.618034) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.62 + 0.2 * (number % 2), 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _muted(colour: Colour) -> Colour:
    """Dark enough for white letters."""
    red, green, blue = (round(0.55 * part) for part in colour)
    return red, green, blue


@lru_cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT * FINE)
