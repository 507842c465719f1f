"""One thread, one seed: every test computes the same numbers alone or in company."""

from __future__ import annotations

import logging

import pytest
import torch

torch.set_num_threads(1)
logging.getLogger("torch.__trace").propagate = False  # torch.export's own trace, under every failing test


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
