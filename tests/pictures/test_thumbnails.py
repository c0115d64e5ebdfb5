"""Images that tools return, on a run's page and in a notebook: data alone, and not too much."""

from __future__ import annotations

import json
import re
import zlib

import pytest

from dagexec import Call, Executor, Media, tool
from dagexec.journal import MemoryJournal, Types
from dagexec.testing import check_conversation, run_virtual
from planners.anthropic import MessagesPlanner

PNG = b"\x89PNG\r\n\x1a\n" + zlib.compress(b"pixels")
BAD = '"><script>alert(1)</script>'


def report_of(*values, **options):
    """Return the report of calls that return these values."""

    @tool(effect="read")
    async def give(place: int) -> object:
        value = values[place]
        return value() if callable(value) else value

    calls = [Call(str(place), "give", {"place": place}) for place in range(len(values))]
    return run_virtual(Executor([give], **options).run, calls)


def images_on(report, **options):
    """Return the images of each call as the page has them."""
    text = report.to_html(**options)
    data = re.search(r'id="data"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert data is not None
    calls = json.loads(data[1])["calls"]
    return {call["id"]: call["images"] for call in calls if "images" in call}, text


def test_a_page_shows_images_as_their_data():
    """Names are escaped; what is no image, too large or elsewhere has its text."""
    media = Media(PNG, name=BAD)
    found, text = images_on(
        report_of(
            media,
            ["text", PNG],
            Media(b"%PDF-1.4"),
            Media(PNG + b"x" * 600_000),
            Media(url="https://x.test/a.png"),
            Media(b"<svg onload=alert(1)>", type="image/svg+xml"),
            Media(b"GIF89a", type="image/png"),
            "no image",
        )
    )
    address = f"data:image/png;base64,{media.base64}"
    assert found["0"] == [[str(media), address]]
    assert found["1"] == [[f"[image/png, {len(PNG)} bytes]", address]]
    assert {name: images[0][1] for name, images in found.items() if name > "1"} == dict.fromkeys(
        "23456", ""
    )
    assert "img-src data:" in text
    assert "<script>alert" not in text


def test_a_page_without_images_may_load_none():
    """Nor one without values."""
    assert "img-src" not in report_of("text").to_html()
    assert "base64," not in report_of(Media(PNG)).to_html(values=False)


def test_all_images_together_are_bounded():
    """As many as fit are drawn."""
    large = [Media(PNG + bytes([number]) * 500_000) for number in range(6)]
    found, text = images_on(report_of(*([large] * 4)))
    drawn = [image for images in found.values() for image in images if image[1]]
    assert len(drawn) == 16
    assert len(text) < 12_000_000


def test_a_notebook_shows_images():
    """Beside the pictures of the run; only where there are some."""
    shown = report_of(Media(PNG, name=BAD))._repr_mimebundle_()
    assert "data:image/png;base64," in shown["text/html"]
    assert "<script>alert" not in shown["text/html"]
    assert "base64," not in report_of("text")._repr_mimebundle_()["text/html"]
    assert "text/html" not in report_of(PNG)._repr_mimebundle_(exclude={"text/html"})
    assert "text/html" not in report_of(PNG)._repr_mimebundle_(include={"text/plain"})
    assert set(Media(PNG)._repr_mimebundle_()) == {"text/plain", "image/png"}
    svg = Media(b"<svg onload=alert(1)>", type="image/svg+xml")
    assert set(svg._repr_mimebundle_()) == {"text/plain"}


@pytest.mark.integration
@pytest.mark.parametrize("library", ["PIL", "matplotlib"])
def test_images_of_libraries(library, caplog):
    """On the page, in front of a model, in a journal, and not in a log."""
    pytest.importorskip(library)

    def make():
        if library == "PIL":
            from PIL import Image

            return Image.new("RGB", (40, 20), "red")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([1, 2])
        return figure

    caplog.set_level("DEBUG")
    found, _ = images_on(report_of(make))
    assert found["0"][0][1].startswith("data:image/png;base64,iVBOR")
    types = Types()
    kept = types.loads(types.dumps([make()]))[0]
    assert type(kept) is Media if library == "matplotlib" else kept.size == (40, 20)
    assert report_of(make, journal=MemoryJournal())["0"].status == "done"

    @tool(effect="read")
    async def plot() -> object:
        return make()

    planner = MessagesPlanner([plot])
    use = {"type": "tool_use", "id": "t1", "name": "plot", "input": {}}
    reply = {"role": "assistant", "stop_reason": "tool_use", "content": [use]}
    plan = planner.plan(reply)
    answers = planner.results(run_virtual(Executor([plot]).run, plan))
    said = {"role": "assistant", "content": reply["content"]}
    body = {"messages": [{"role": "user", "content": "Plot."}, said, *answers]}
    assert check_conversation("messages", body) == []
    assert "iVBOR" in json.dumps(answers)
    assert "iVBOR" not in caplog.text
