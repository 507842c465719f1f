"""What a file says about itself, beside the graph."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """The same facts for every format.

    `mean` and `std` are per channel for RGB pixels in 0..1 (empty: the input is not an image); `precision` is float32,
    float16 or int8; `outputs` describes outputs by name, and `boxes` names the one that holds boxes y0, x0, y1, x1 as
    parts of the input.
    """

    name: str
    precision: str = "float32"
    description: str = ""
    version: str = ""
    author: str = ""
    licence: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    boxes: str = ""
