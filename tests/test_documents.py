"""README and guides: each Python block runs alone, and prints what stands behind it.

The guides are the docstrings of the public packages. A block is a file of its own: it imports what
it uses. A `text` block behind a Python block is its output, apart from seconds.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dagexec import MissingExtra
from dagexec.cli import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REQUIRED = os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") == "1"
# They need an environment of their own; `make adk` runs their tests.
ELSEWHERE = ("dagexec.integrations.adk", "dagexec.integrations.strands")


class Block(NamedTuple):
    """A fenced block: where it stands, its language, its text, and the output behind it or None."""

    place: str
    language: str
    code: str
    output: str | None


def _guides():
    """Yield (name, docstring) of all public modules, without importing one."""
    for package in ("dagexec", "planners"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts):
                yield ".".join(parts), ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


GUIDES = dict(_guides())


def _blocks(place, text):
    found = BLOCK.findall(text)
    for index, (language, code) in enumerate(found):
        following = found[index + 1] if index + 1 < len(found) else ("", "")
        output = following[1] if following[0] == "text" else None
        yield Block(f"{place}-{index + 1}", language, code, output)


BLOCKS = [
    *_blocks("README", README.read_text("utf-8")),
    *(block for name, text in GUIDES.items() for block in _blocks(name, text)),
]
PYTHON = [
    block
    for block in BLOCKS
    if block.language == "python" and not block.place.startswith(ELSEWHERE)
]


def test_there_is_something_to_run():
    """Otherwise all that follows would pass."""
    assert len(PYTHON) >= 25
    assert len(README.read_text("utf-8").splitlines()) <= 250


@pytest.mark.real_time
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_step_is_slow")
@pytest.mark.parametrize("block", PYTHON, ids=[block.place for block in PYTHON])
def test_a_block_runs_alone(block, capsys, monkeypatch, tmp_path):
    """In an empty folder, in an empty file."""
    monkeypatch.delenv("DAGEXEC_CONCURRENCY", raising=False)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "example.py"
    file.write_text(block.code, "utf-8")
    if 'runs="process"' in block.code:  # the process has to find the file
        done = subprocess.run(
            [sys.executable, str(file)], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        out = done.stdout
    else:
        try:
            exec(
                compile(block.code, str(file), "exec", dont_inherit=True), {"__name__": "__main__"}
            )
        except (ModuleNotFoundError, MissingExtra) as error:
            if REQUIRED:
                raise
            pytest.skip(str(error))
        out = capsys.readouterr().out
    if block.output is not None:
        assert _steady(out).split() == _steady(block.output).split()  # a guide may break lines


def _steady(text):
    """Return a text without seconds, which no two runs share."""
    return re.sub(r"\d+\.\d+ s|\d+(\.\d+)? ms", "0.00 s", text).strip()


def test_the_commands_are_there(capsys, monkeypatch, tmp_path):
    """Each `dagexec` command of a console block is one; those that need no terminal run."""
    guide = list(_blocks("cli", GUIDES["dagexec.cli"]))
    tools = next(block.code for block in guide if block.code.startswith("# my_tools.py"))
    plan = next(block.code for block in guide if block.language == "json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGEXEC_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_tools.py").write_text(tools, "utf-8")
    (tmp_path / "plan.json").write_text(plan, "utf-8")
    commands = [
        line
        for block in BLOCKS
        if block.language == "console"
        for line in block.code.splitlines()
        if line.startswith("$ dagexec ")
    ]
    assert len(commands) >= 3
    for line in commands:
        argv = shlex.split(line.removeprefix("$ dagexec "), comments=True)
        if argv[0] not in ("demo", "doctor"):  # they have tests of their own
            assert main(argv) == 0, capsys.readouterr().err
    sys.modules.pop("my_tools", None)
    assert "flowchart LR" in capsys.readouterr().out


def test_readme_names_only_guides_that_are_there():
    """A module's name in README is a public module, or a name in one."""
    for name in re.findall(r"`((?:dagexec|planners)\.[a-z_.]+)`", README.read_text("utf-8")):
        assert name in GUIDES, name
