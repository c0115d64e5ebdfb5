"""Every notebook runs from top to bottom in a real kernel: offline, no warnings, with pictures."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.real_time,
    pytest.mark.timeout(400),  # a kernel each, and machines that are slow
]

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Whoever tries to reach the network finds a closed door on this machine, and no key.
CLOSED = "http://127.0.0.1:9"
OFFLINE = {
    "HTTP_PROXY": CLOSED,
    "HTTPS_PROXY": CLOSED,
    "ALL_PROXY": CLOSED,
    "http_proxy": CLOSED,
    "https_proxy": CLOSED,
    "all_proxy": CLOSED,
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "PYTHONWARNINGS": "default",
}
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DAGEXEC_DISPLAY", "DAGEXEC_CONCURRENCY")


def read(path):
    """Return a notebook; reading checks it against the format's schema."""
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def pictures(notebook):
    """Return the SVGs that its cells show."""
    return [
        output["data"]["image/svg+xml"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/svg+xml" in output.get("data", {})
    ]


def test_there_is_a_course():
    """Numbered from 1 without a gap."""
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    assert len(numbers) >= 3
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_begins_with_the_problem_and_ends_with_what_to_try(path):
    """And it is kept with its pictures, for those who read it where nothing runs."""
    notebook = read(path)
    assert notebook.cells[0].cell_type == "markdown"
    assert f"# {int(path.name[:2])}. " in notebook.cells[0].source
    assert "**The problem.**" in notebook.cells[0].source
    assert notebook.cells[-1].source.startswith("**To try**")
    for name in re.findall(r"`(\d\d_\w+\.ipynb)`", notebook.cells[-1].source):
        assert (FOLDER / name).exists(), "it points to a notebook that is not there"
    assert pictures(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    """No key, no network, nothing on stderr or left; as many pictures as it is kept with."""
    nbclient = pytest.importorskip("nbclient")
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (folder := tmp_path / "folder").mkdir()
    notebook = read(path)
    expected = len(pictures(notebook))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=200,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    assert not list(folder.iterdir()), "it leaves files, so it may not run twice"
    drawn = pictures(notebook)
    assert len(drawn) >= expected
    for svg in drawn:
        ET.fromstring(svg)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.get("name") != "stderr", output.get("text")


def test_the_pictures_survive_in_a_page(tmp_path):
    """As nbconvert makes one: drawn, without a script of ours and without a network."""
    nbconvert = pytest.importorskip("nbconvert")
    notebook = read(NOTEBOOKS[0])
    body, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert body.count("data:image/svg+xml") + body.count("<svg") >= len(pictures(notebook))
    assert "dagexec" not in "".join(re.findall(r"<script[^>]*src=[^>]*>", body))
