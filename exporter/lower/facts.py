"""What a file says about itself, beside the graph."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """The same facts for every format.

    `mean` and `std` are per channel for RGB pixels in 0..1 (empty: the input is not an image); `resize` is how pictures
    came to their size: stretch, crop or letterbox; `precision` is float32, float16 or int8; `outputs` describes outputs
    by name, and `boxes` names the one that holds boxes y0, x0, y1, x1 as parts of the input.
    """

    name: str
    precision: str = "float32"
    description: str = ""
    version: str = ""
    author: str = ""
    licence: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: str = ""
    labels: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    boxes: str = ""

    def properties(self) -> dict[str, str]:
        """As text and JSON, for formats that hold pairs of strings; empty facts are left out."""
        texts = {
            "name": self.name,
            "precision": self.precision,
            "mean": json.dumps(self.mean) if self.mean else "",
            "std": json.dumps(self.std) if self.std else "",
            "resize": self.resize,
            "labels": "\n".join(self.labels),
            "outputs": json.dumps(self.outputs) if self.outputs else "",
        }
        return {key: text for key, text in texts.items() if text}
