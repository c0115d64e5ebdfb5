"""The commands read LLMCompiler's text plans, too."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dagexec.cli import main

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
TOOLS = """
from dagexec import tool

@tool(effect="pure")
async def double(number: int) -> int:
    return 2 * number
"""
PLAN = "Thought: twice\n1. double(4)\n2. double($1)\n3. join()<END_OF_PLAN>\n"


@pytest.fixture(autouse=True)
def _declared(monkeypatch, tmp_path):
    """Use the entry points as pyproject declares them, whatever is installed."""
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    found = [
        EntryPoint(name, value, "dagexec.planners")
        for name, value in project["entry-points"]["dagexec.planners"].items()
    ]
    monkeypatch.setattr("dagexec.cli._inputs.entry_points", lambda *, group: found)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools_of_text.py").write_text(TOOLS, "utf-8")
    (tmp_path / "plan.txt").write_text(PLAN, "utf-8")
    (tmp_path / "prose.txt").write_text("Nothing to run here.\n", "utf-8")


def test_a_text_plan_is_run(capsys):
    """The results go to stdout as the message for the model."""
    assert main(["run", "plan.txt", "--tools", "tools_of_text.py"]) == 0
    assert "[call 2: double]\\n16" in capsys.readouterr().out


def test_a_text_plan_is_shown_and_checked(capsys):
    """Without its tools, too."""
    assert main(["show", "plan.txt"]) == 0
    assert "2 double  <- 1" in capsys.readouterr().out
    assert main(["check", "plan.txt"]) == 0
    assert main(["check", "plan.txt", "--tools", "tools_of_text.py"]) == 0


def test_other_text_is_not_json(capsys):
    """As before."""
    assert main(["show", "prose.txt"]) == 2
    assert "is not JSON" in capsys.readouterr().err
