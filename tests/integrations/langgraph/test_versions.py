"""LangGraph's own suite against the node, and these tests on the oldest LangGraph that is allowed.

Both need packages that a developer's environment lacks, and take them from pip's index into a
temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
# What the upstream tests' own conftest imports; everything runs in memory.
PLUGINS = [
    *("pytest-asyncio", "pytest-mock", "syrupy"),
    *("langgraph-checkpoint-sqlite", "aiosqlite", "sqlite-vec"),
    *("langgraph-checkpoint-postgres", "psycopg", "psycopg-binary", "psycopg-pool"),
]
# How many there are at the version that the node was built with.
KNOWN = {"1.1.2": {"all": 260, "test_tool_node": 99}}
# It asserts that a call that is done runs again after another's interrupt. Here it does not.
DEVIATIONS = {"tests.test_react_agent.test_react_agent_parallel_tool_calls[memory-v1]"}


def run(command, **options):
    """Run a program; fail with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """Return a folder with the tests of the sdist of langgraph-prebuilt that is installed."""
    folder = tmp_path_factory.mktemp("upstream")
    wanted = f"langgraph-prebuilt=={version('langgraph-prebuilt')}"
    source = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    run([*PIP, "download", *source, wanted, "--dest", folder])
    run([*PIP, "install", "--no-deps", "--target", folder / "plugins", *PLUGINS])
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    shutil.copytree(next(folder.glob("langgraph_prebuilt-*/tests")), folder / "tests")
    shutil.copy(Path(__file__).with_name("swapped.py"), folder / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    return folder


def passed(folder, node="", *options):
    """Run the upstream tests and return the names of those that pass."""
    report = folder / f"{'other' if node else 'stock'}.xml"
    environment = {
        **os.environ,
        "NODE": node,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "plugins")]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "tests", *options, f"--junitxml={report}"]
    # Fails if a test does; the report says which.
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return {
        f"{case.get('classname')}.{case.get('name')}"
        for case in ET.parse(report).iter("testcase")
        if not len(case)
    }


def test_langgraphs_own_suite(upstream):
    """All that pass with the stock class pass with this one, but for what is listed."""
    stock = passed(upstream)
    own = passed(upstream, "dagexec.integrations.langgraph:DagToolNode")
    if stock - own - DEVIATIONS:  # some count on a quiet machine: these once more, by themselves
        own |= passed(upstream, "dagexec.integrations.langgraph:DagToolNode", "--last-failed")
    expected = KNOWN.get(version("langgraph-prebuilt"), {})
    assert len(stock) == expected.get("all", len(stock))
    nodes = {name for name in stock if name.startswith("tests.test_tool_node")}
    assert len(nodes) == expected.get("test_tool_node", len(nodes))
    assert nodes <= own
    assert stock - own == DEVIATIONS


def test_the_oldest_langgraph(tmp_path):
    """What the extra's lower bounds promise is true."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = [each.replace(">=", "==") for each in project["optional-dependencies"]["langgraph"]]
    assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", each) for each in oldest)
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"])
    python = tmp_path / "venv" / "bin" / "python"
    needed = [*oldest, *project["dependencies"], "pytest>=9", "pytest-timeout>=2.4", "trio"]
    run([*PIP, "--python", python, "install", *needed])
    folder = Path(__file__).parent.relative_to(ROOT)
    # Half of the ways: each method and each kind of tool is still there.
    some = ["-m", "not slow", "-k", "not ([ainvoke-waits or [invoke-blocks)"]
    command = [python, "-m", "pytest", "-q", *some, "-p", "no:cacheprovider", folder]
    # It lacks packages on purpose, so what needs them may be skipped.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DAGEXEC_REQUIRE_INTEGRATION", None)
    run(command, cwd=ROOT, env=environment)
