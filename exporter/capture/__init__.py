"""Stage capture: an `nn.Module` becomes a `Graph`."""

from exporter.capture.export import capture

__all__ = ["capture"]
