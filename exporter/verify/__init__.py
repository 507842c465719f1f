"""Artifacts run on real runtimes and compared with PyTorch: parity, metrics, latency."""
