"""The table that every target fills: op name -> the function that writes one node in the format's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

E = TypeVar("E", bound=Callable[..., None])


class Spellings(dict[str, E], Generic[E]):
    """Filled by `register`, as a decorator; an op is spelled once."""

    def register(self, function: E, name: str = "") -> E:
        """Register the function for the op of its name (a trailing underscore is dropped), or for `name`."""
        name = name or function.__name__.rstrip("_")
        if name in self:
            raise ValueError(f"{name} is spelled twice")
        self[name] = function
        return function
