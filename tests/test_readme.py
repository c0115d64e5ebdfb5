"""Every Python block of the README runs, in order, in one namespace; so do its dagexec commands."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from inspect import CO_COROUTINE
from pathlib import Path

import pytest

from dagexec.cli import main

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README.read_text("utf-8"))
# ast.PyCF_ALLOW_TOP_LEVEL_AWAIT: the README awaits as a notebook does.
TOP_LEVEL_AWAIT = 0x2000


def _run(code, namespace):
    compiled = compile(code, str(README), "exec", flags=TOP_LEVEL_AWAIT, dont_inherit=True)
    made = eval(compiled, namespace)
    if compiled.co_flags & CO_COROUTINE:
        asyncio.run(made)


@pytest.mark.real_time
@pytest.mark.timeout(240)  # it starts interpreters, and an MCP server
def test_the_python_blocks_run_and_print_what_the_readme_says(capsys, monkeypatch, tmp_path):
    """A `text` block behind a Python block is its output, apart from the seconds."""
    monkeypatch.delenv("DAGEXEC_CONCURRENCY", raising=False)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    ran = 0
    for index, (language, code) in enumerate(BLOCKS):
        if language != "python":
            continue
        ran += 1
        _run(code, namespace)
        out = capsys.readouterr().out
        following = BLOCKS[index + 1] if index + 1 < len(BLOCKS) else ("", "")
        if following[0] == "text":
            assert _steady(out) == _steady(following[1])
    assert ran >= 8


def _steady(text):
    """Return a text without seconds, which no two runs share."""
    return re.sub(r"\d+\.\d+ s", "0.00 s", text).strip()


def test_the_shell_blocks_name_what_there_is(capsys, monkeypatch, tmp_path):
    """Each `dagexec` command of the README is one; those that need no terminal run."""
    tools, plan = _files()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGEXEC_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_tools.py").write_text(tools, "utf-8")
    (tmp_path / "plan.json").write_text(plan, "utf-8")
    commands = [
        line
        for language, code in BLOCKS
        if language == "console"
        for line in code.splitlines()
        if line.startswith("$ dagexec ")
    ]
    assert len(commands) >= 3
    for line in commands:
        argv = shlex.split(line.removeprefix("$ dagexec "), comments=True)
        if argv[0] not in ("demo", "doctor"):  # they have tests of their own
            assert main(argv) == 0, capsys.readouterr().err
    sys.modules.pop("my_tools", None)
    assert "flowchart LR" in capsys.readouterr().out


def _files():
    """Return the tools and the plan that the README's commands use."""
    tools = next(code for _, code in BLOCKS if code.startswith("# my_tools.py"))
    plan = next(code for language, code in BLOCKS if language == "json")
    return tools, plan
