"""The page of a run: one file, no network, everything in it as text; in a real browser."""

from __future__ import annotations

import re

import pytest

from dagexec import Call, Executor, tool
from dagexec.testing import ToolBox, run_virtual

BAD = '</script><img src=x onerror="document.title=1">%%DATA%%\u2028'


def test_it_is_one_file_that_loads_nothing(twelve, tmp_path):
    """No address in it but the name of SVG; a policy that forbids all requests."""
    path = twelve.save_html(tmp_path / "run.html")
    text = path.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.findall(r"<(?:link|img|iframe|object|embed)\b|\bsrc=|@import|url\(", text)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="missing"):
        twelve.save_html(tmp_path / "missing" / "run.html")


def test_values_can_be_left_out(twelve):
    """Arguments and results are shown or not; errors always are."""
    assert '"value"' in twelve.to_html()
    without = twelve.to_html(values=False)
    assert '"value":' not in without
    assert '"args":' not in without
    assert "exit 1" in without


def test_secret_arguments_are_hidden():
    """The tool says which; also after a report was written and read."""

    @tool(effect="read", secret=("key",))
    async def fetch(key: str, url: str) -> str:
        return url

    async def run():
        return await Executor([fetch]).run([Call("a", "fetch", {"key": "hush-hush", "url": "u"})])

    report = run_virtual(run)
    for each in (report, type(report).from_json(report.to_json())):
        page = each.to_html()
        assert "hush-hush" not in page
        assert "<secret>" in page.replace("\\u003c", "<")


@pytest.mark.integration
@pytest.mark.real_time
@pytest.mark.timeout(240)  # a browser starts, and machines are slow
class TestInABrowser:
    """Debian's chromium; every page must be free of errors and of requests."""

    @pytest.fixture
    def open_page(self, chromium, tmp_path):
        """Return a function that opens a report; at the end nothing must have gone wrong."""
        wrong = []
        contexts = []

        def opened(report, **options):
            path = report.save_html(tmp_path / "run.html")
            context = chromium.browser.new_context(
                viewport={"width": 1400, "height": 1000}, **options
            )
            contexts.append(context)
            page = context.new_page()
            page.on("console", lambda message: wrong.append(message.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "request",
                lambda request: request.url == path.as_uri() or wrong.append(request.url),
            )
            page.goto(path.as_uri())
            return page

        yield opened
        for context in contexts:
            chromium.call(context.close)
        assert wrong == []

    def test_a_click_shows_the_details_of_a_call(self, open_page, twelve):
        """In the graph, the timeline and the list; the links lead on."""
        page = open_page(twelve)
        details = page.locator("#details")
        assert "7 slow" in details.inner_text(), "what failed first is shown first"
        page.locator("section:nth-of-type(1) g[data-calls]", has_text="8 lint").click()
        assert "ValueError: exit 1" in details.inner_text()
        assert '"$ref": "2"' in details.inner_text()
        page.locator("section:nth-of-type(2) g[data-calls]", has_text="6 fetch").first.click()
        text = details.inner_text()
        assert "Waited (slot)" in text
        assert "waited for a slot" in text
        details.get_by_role("link", name="9").click()
        assert "9 sum" in details.inner_text()
        page.locator("#rows tr").nth(10).click()
        assert "11 write" in details.inner_text()

    def test_it_can_be_used_with_the_keyboard(self, open_page, twelve):
        """Each call in a picture can be reached and opened."""
        page = open_page(twelve)
        node = page.locator("g[data-calls]", has_text="11 write").first
        node.focus()
        page.keyboard.press("Enter")
        assert "11 write" in page.locator("#details").inner_text()
        assert node.get_attribute("role") == "button"
        assert "11 write: done" in node.get_attribute("aria-label")

    def test_the_search_finds_and_dims(self, open_page, many):
        """By id, tool, state and text; what does not match steps back in the pictures."""
        page = open_page(many)
        assert page.locator("#rows tr:visible").count() == 500
        page.fill("#search", "failed KeyError")
        shown = page.locator("#rows tr:visible").count()
        assert shown == sum(outcome.status == "failed" for outcome in many.values())
        assert page.locator("#found").inner_text() == f"{shown} of 500 calls"
        assert page.locator("g.off").count() > 10
        page.fill("#search", "")
        assert page.locator("g.off").count() == 0

    def test_a_stack_of_calls_narrows_the_list(self, open_page, many):
        """500 calls: the graph is folded, and nothing is lost."""
        page = open_page(many)
        stack = page.locator("g[data-calls]", has_text="× search").first
        size = int(re.search(r"(\d+) ×", stack.locator("text").first.text_content()).group(1))
        stack.click()
        assert page.locator("#rows tr:visible").count() == size
        page.locator("#all").click()
        assert page.locator("#rows tr:visible").count() == 500

    def test_the_list_can_be_sorted(self, open_page, many):
        """By what took longest."""
        page = open_page(many)
        header = page.locator("th button", has_text="Took")
        header.click()
        header.click()
        took = page.locator("#rows tr td:nth-child(7)").all_inner_texts()
        seconds = [float(text.split()[0]) for text in took if text]
        assert seconds == sorted(seconds, reverse=True)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_follows_the_readers_colours(self, open_page, twelve, scheme):
        """And changes them on demand."""
        page = open_page(twelve, color_scheme=scheme)
        colour = "getComputedStyle(document.querySelector('svg > rect')).fill"
        cards = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 26, 32)"}
        assert page.evaluate(colour) == cards[scheme]
        page.locator("#theme").click()
        assert page.evaluate(colour) != cards[scheme]

    @pytest.fixture
    def bad(self):
        """Return the report of a call whose id, argument and result are markup."""
        box = ToolBox()
        box.tool("echo", returns=BAD)

        async def run():
            return await Executor(box.tools).run([Call(BAD, "echo", {"x": BAD})], run_id=BAD)

        return run_virtual(run)

    def test_what_calls_bring_along_is_text(self, open_page, bad):
        """An id, an argument and a result that are markup are shown, not run."""
        page = open_page(bad)
        title = page.title()
        page.locator("#rows tr").click()
        assert page.locator("#details pre").count() == 2
        assert "onerror" in page.locator("#details").inner_text()
        assert page.locator("img").count() == 0
        assert page.title() == title
