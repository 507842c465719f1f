"""The pages of docs/ that are made from the code are the code's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from exporter.ir.ops import OPS
from exporter.lower import NAMES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def make_ops():
    spec = importlib.util.spec_from_file_location("make_ops", ROOT / "docs" / "make_ops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_ops_is_up_to_date(make_ops):
    assert make_ops.PAGE.read_text() == make_ops.page(), "run python docs/make_ops.py"


def test_the_page_has_every_op_in_every_format(make_ops):
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", make_ops.PAGE.read_text(), flags=re.M)
    assert [name for name, _ in rows] == list(OPS)
    assert {len(cells.replace("\\|", "").split("|")) for _, cells in rows} == {2 + 2 * len(NAMES)}


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]))
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
