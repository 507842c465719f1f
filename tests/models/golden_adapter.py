"""Adapter for check_golden.py: our models under its two function names."""

from exporter.build import build_model, load_weights


def build(name, image_size):
    return build_model(name, image_size=image_size)


load = load_weights
