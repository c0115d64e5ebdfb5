"""Pictures in a notebook fit its width and its theme, in a real browser too."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from urllib.parse import unquote

import pytest

from dagexec._pictures.svg import recoloured

IMAGES = re.compile(r'<img class="dagexec-(light|dark)"[^>]* src="data:image/svg\+xml,([^"]+)"')


def test_there_is_a_picture_for_each_theme(twelve):
    """Those that `to_svg` makes."""
    for shown in (twelve, twelve.plan, twelve.diagram, twelve.timeline):
        html = shown._repr_mimebundle_()["text/html"]
        found = {theme: unquote(text) for theme, text in IMAGES.findall(html)}
        assert set(found) == {"light", "dark"}
        for theme, svg in found.items():
            assert ET.fromstring(svg).tag.endswith("svg")
            draw = shown.diagram.to_svg if shown is twelve.plan else shown.to_svg
            assert svg == draw(theme=theme)


def test_what_is_shown_alone_adapts_itself(twelve):
    """It fits its column, and its style makes it dark; it is the same picture otherwise."""
    svg = twelve._repr_svg_()
    root = ET.fromstring(svg)
    assert "max-width:100%" in root.attrib["style"]
    style = re.search(r"<style>(.*?)</style>", svg)[1]
    assert "prefers-color-scheme:dark" in style
    assert svg.count("<style>") == 1
    light, dark = twelve.to_svg(), twelve.to_svg(theme="dark")
    colours = {name.lower() for name in re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', light)}
    assert colours <= {colour for _, colour, _ in recoloured()}
    named = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', dark))
    assert named <= {colour for _, _, colour in recoloured()}


def test_the_page_of_a_browser(chromium, twelve, tmp_path):
    """One image is seen, the one of the theme, and no wider than its column."""
    html = twelve._repr_mimebundle_()["text/html"]
    look = """() => [...document.querySelectorAll('img')].map(
        each => [each.className, each.getBoundingClientRect().width])"""
    for theme, light in (("light", "true"), ("dark", "false")):
        file = tmp_path / f"{theme}.html"
        file.write_text(
            f'<body data-jp-theme-light="{light}"><div style="width:400px">{html}</div></body>'
        )
        widths = dict(chromium.call(_looked, chromium, file, look))
        other = {"light": "dark", "dark": "light"}[theme]
        assert widths[f"dagexec-{theme}"] == pytest.approx(400, abs=1)
        assert widths[f"dagexec-{other}"] == 0


def test_the_page_of_a_run_is_not_cut(chromium, twelve, tmp_path):
    """At 1,280 pixels both pictures fit their column; on a phone they scroll, and stay legible."""
    file = twelve.save_html(tmp_path / "run.html")
    look = """() => [...document.querySelectorAll('.scroll')].map(
        each => [each.scrollWidth, each.clientWidth])"""
    for inside, seen in chromium.call(_looked, chromium, file, look, 1280):
        assert inside <= seen
    assert max(inside for inside, _ in chromium.call(_looked, chromium, file, look, 390)) > 600


def _looked(chromium, file, script, width=1000):
    page = chromium.browser.new_page(viewport={"width": width, "height": 800})
    try:
        page.goto(file.as_uri())
        return page.evaluate(script)
    finally:
        page.close()
