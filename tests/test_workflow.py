"""The documented workflow runs commands that exist, and they are the README's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from exporter.cli import app

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "verify.yml"
JOBS = yaml.safe_load(WORKFLOW.read_text())["jobs"]
MATRIX = JOBS["verify"]["strategy"]["matrix"]["include"]
PAGES = ["README.md", "docs/ci.md"]
EMULATED = "x86 and emulated arm64"


def commands(entry: dict[str, object], baseline: bool = True) -> list[str]:
    """What one machine of the matrix runs of ours, its expressions filled in."""
    found = []
    for step in JOBS["verify"]["steps"]:
        if str(step.get("run", "")).startswith("edge-export") and (
            entry.get("emulated") or "emulated" not in str(step.get("if"))
        ):
            text = re.sub(r"\$\{\{ matrix\.(\w+) }}", lambda match: str(entry[match[1]]), step["run"])
            given = "--baseline baseline.json" if baseline and entry.get("emulated") else ""
            text = re.sub(r"\$\{\{ matrix\.emulated && hashFiles.*? }}", given, text)
            assert "${{" not in text, text
            found.append(" ".join(text.split()))
    return found


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("entry", MATRIX, ids=lambda entry: entry["name"])
def test_every_command_of_the_workflow_is_one_of_the_command_line(entry, baseline):
    group = typer.main.get_command(app)
    ran = commands(entry, baseline)
    assert len(ran) == 4 + bool(entry.get("emulated"))
    for line in ran:
        words = shlex.split(line.split(" > ")[0])[1:]
        name = words.pop(0) if words[0] in group.commands else "export"
        command = group.commands[name]
        context = command.make_context(name, words)
        assert context.params, line


def test_an_option_that_does_not_exist_would_be_found():
    command = typer.main.get_command(app).commands["verify"]
    with pytest.raises(Exception, match="No such option"):
        command.make_context("verify", ["out", "--onto", "local"])


@pytest.mark.parametrize("page", PAGES)
def test_they_are_the_commands_of_the_pages(page):
    (entry,) = (entry for entry in MATRIX if entry["name"] == EMULATED)
    blocks = re.findall(r"(?:^    edge-export [^\n]*\n)+", (ROOT / page).read_text(), flags=re.M)
    shown = [[line.strip() for line in block.splitlines()] for block in blocks]
    assert commands(entry) in shown


def test_every_machine_of_the_matrix_has_what_its_steps_ask_for():
    assert [entry["name"] for entry in MATRIX] == [EMULATED, "native arm64", "Core ML on macOS"]
    assert [entry["machine"] for entry in MATRIX] == ["ubuntu-24.04", "ubuntu-24.04-arm", "macos-15"]
    asked = set(re.findall(r"matrix\.(\w+)", WORKFLOW.read_text()))
    assert asked <= {"emulated", *set.intersection(*(set(entry) for entry in MATRIX))}
    assert {step["uses"].split("@")[0] for step in JOBS["verify"]["steps"] if "uses" in step} == {
        "actions/checkout",
        "actions/setup-python",
        "actions/cache",
        "actions/cache/restore",
        "actions/cache/save",
        "actions/upload-artifact",
    }
