"""A page that shows a run: one file, both pictures, every call, a search, no network.

Imports the pictures. Read `page` first; `page.html` is the frame that it fills.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from dagexec._pictures.diagram import Diagram
from dagexec._pictures.glyphs import GLYPHS
from dagexec._pictures.svg import variables
from dagexec._pictures.timeline import Timeline

# What of an argument or a result is shown. Characters; the report's JSON has all of it.
_SHOWN: Final = 4000
# The page may use what it brings, and nothing else: no request can leave it.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_IMAGES: Final = "; img-src data:"
Images = Mapping[str, Sequence[tuple[str, str]]]


def page(
    diagram: Diagram,
    timeline: Timeline,
    body: dict[str, Any],
    *,
    values: bool,
    images: Images = MappingProxyType({}),
) -> str:
    """Return the page as HTML text; with `values=False` without arguments and results.

    `body` is the JSON form of the report whose pictures these are: it hides what is secret.
    `images` are texts and `data:` addresses of what calls returned; '' has no address.
    """
    here = files(__name__)
    calls = _calls(diagram, timeline, body, values=values)
    for call in calls:
        if call["id"] in images:
            call["images"] = images[call["id"]]
    data = {"run": body["run_id"], "calls": calls}
    parts = {
        "POLICY": _POLICY + (_IMAGES if images else ""),
        "TITLE": escape(safe_text(f"dagexec: {diagram.caption}")),
        "CAPTION": escape(safe_text(diagram.caption)),
        "RUN": escape(safe_text(body["run_id"])),
        "LIGHT": variables("light"),
        "DARK": variables("dark"),
        "STYLE": here.joinpath("page.css").read_text("utf-8"),
        "GRAPH": diagram.to_svg(theme="page", interactive=True),
        "TIMELINE": timeline.to_svg(theme="page", interactive=True),
        "SPOKEN": escape(safe_text(f"{diagram.spoken()} {timeline.spoken()}")),
        "DATA": _embedded(data),
        "SCRIPT": here.joinpath("page.js").read_text("utf-8"),
    }
    text = here.joinpath("page.html").read_text("utf-8")
    # Split first: nothing that a call brought along can be taken for a place to fill.
    pieces = text.split("%%")
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def safe_text(text: str) -> str:
    """Return text without what no page may hold; not yet escaped."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _embedded(data: Any) -> str:
    """Return JSON that nothing in it can end early."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return safe_text(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _calls(
    diagram: Diagram, timeline: Timeline, body: dict[str, Any], *, values: bool
) -> list[dict[str, Any]]:
    behind: dict[str, list[str]] = {}
    needs: dict[str, list[str]] = {}
    for source, target in diagram.edges:
        behind.setdefault(source, []).append(target)
        needs.setdefault(target, []).append(source)
    bars = {bar["id"]: bar for bar in timeline.to_dict()["calls"]}
    plan = {call["id"]: call for call in body["plan"]["calls"]}
    critical = {link.call: link.via for link in timeline.path}
    calls: list[dict[str, Any]] = []
    for node in diagram.nodes:
        item: dict[str, Any] = {
            "id": node.id,
            "tool": node.tool,
            "state": node.state,
            "glyph": GLYPHS[node.state],
            "note": node.note,
            "critical": critical.get(node.id),
            "needs": needs.get(node.id, []),
            "behind": behind.get(node.id, []),
            **{key: value for key, value in bars.get(node.id, {}).items() if key != "state"},
        }
        outcome = body["outcomes"].get(node.id, {})
        item.update({key: outcome[key] for key in _SIMPLE if key in outcome})
        if values:
            item["args"] = _shown(plan[node.id]["args"])
            item |= {key: _shown(outcome[key]) for key in ("value", "question") if key in outcome}
        calls.append(item)
    return calls


_SIMPLE: Final = ("error", "scope", "because", "maybe")


def _shown(value: Any) -> str:
    indent = 2 if isinstance(value, dict | list) and value else None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent)
    if len(text) > _SHOWN:
        return f"{text[:_SHOWN]}\n… {len(text) - _SHOWN} more characters"
    return text
