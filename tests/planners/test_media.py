"""A PNG that a tool made, in front of the model: three APIs, DagToolNode, MCP, a journal."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from dagexec import Call, DagexecError, Executor, Media, Plan, tool
from dagexec.journal import MemoryJournal
from dagexec.testing import check_conversation

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@tool(effect="read")
async def draw(kind: str = "media") -> object:
    """Draw."""
    return {
        "media": Media(PNG, name="a.png"),
        "bytes": PNG,
        "mixed": ["before", Media(PNG), "after", Media(b"%PDF-1.7 x", name="b.pdf")],
        "url": Media(url="https://x.test/a.png?key=secret"),
        "block": [
            {"type": "text", "text": "see"},
            {"type": "image", "base64": B64, **TYPED},
        ],
        "tiff": Media(b"II*\x00", type="image/tiff"),
        "large": Media(PNG + b"x" * (30 << 20)),
        "wav": Media(b"RIFF\0\0\0\0WAVEfmt "),
    }[kind]


@tool(effect="read")
async def size(image: object) -> int:
    """Return the size of what it is given."""
    return len(image.data if isinstance(image, Media) else image)


B64, TYPED = base64.b64encode(PNG).decode(), {"mime_type": "image/png"}
TOOLS = [draw, size]


async def shown(wire, *calls):
    """Run calls; return what goes back, checked."""
    planner = wire.planner(TOOLS)
    reply = wire.reply(*calls)
    report = await Executor(TOOLS).run(planner.plan(reply))
    results = planner.results(report)
    key = "input" if wire.api == "responses" else "messages"
    body = {key: [{"role": "user", "content": "go"}, *planner.reply(reply), *results]}
    check_conversation(wire.api, body)
    return report, results


def texts_and_blocks(wire, results):
    """Return the text of the first answer, and the blocks that show media."""
    if wire.api == "chat":
        behind = [item for item in results if item["role"] == "user"]
        return results[0]["content"], behind[0]["content"][1:] if behind else []
    content = (
        results[0]["output"] if wire.api == "responses" else results[0]["content"][0]["content"]
    )
    if isinstance(content, str):
        return content, []
    return content[0]["text"], content[1:]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["media", "bytes", "block"])
async def test_a_picture_for_each_api(wire, kind):
    """As the block that the API has for it, beside a text that names it."""
    _, results = await shown(wire, ("draw", {"kind": kind}))
    text, (block,) = texts_and_blocks(wire, results)
    assert text.startswith("[call 1]\n")
    assert f"[image/png, {len(PNG)} bytes" in text
    assert (
        block
        == {
            "chat": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}},
            "responses": {
                "type": "input_image",
                "image_url": f"data:image/png;base64,{B64}",
                "detail": "auto",
            },
            "messages": {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": B64},
            },
        }[wire.api]
    )


@pytest.mark.anyio
async def test_a_batch_with_pictures_and_references(wire):
    """Chat's user message stands behind all answers; by reference media travel whole."""
    report, results = await shown(
        wire,
        ("draw", {}),
        ("size", {"image": {"$ref": "1"}}),
        ("draw", {"kind": "mixed"}),
        ("size", {"image": {"$ref": "3[1]"}}),
    )
    assert report["2"].value == report["4"].value == len(PNG)
    if wire.api == "chat":
        assert [item["role"] for item in results] == ["tool"] * 4 + ["user"]
        kinds = [part["type"] for part in results[-1]["content"]]
        assert kinds == ["text", "image_url", "text", "image_url", "file"]
        assert results[-1]["content"][2]["text"] == "Media of [call 3]:"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "said"), [("tiff", "cannot be shown to you: the API takes"), ("large", "too large")]
)
async def test_what_an_api_refuses_is_told_as_text(wire, kind, said):
    """Types and sizes."""
    _, results = await shown(wire, ("draw", {"kind": kind}))
    text, blocks = texts_and_blocks(wire, results)
    assert said in text
    assert blocks == []
    assert len(json.dumps(results)) < 3_000


@pytest.mark.anyio
async def test_an_address_and_a_sound(wire):
    """What an API can take by its address goes so; a sound where the API hears."""
    _, results = await shown(wire, ("draw", {"kind": "url"}))
    text, blocks = texts_and_blocks(wire, results)
    assert "https://x.test/a.png?key=secret" in json.dumps(blocks)
    assert "secret" not in text
    _, results = await shown(wire, ("draw", {"kind": "wav"}))
    text, blocks = texts_and_blocks(wire, results)
    assert bool(blocks) is (wire.api == "chat")


@pytest.mark.anyio
async def test_a_journal_keeps_media(tmp_path, capsys, caplog):
    """With their bytes; texts and logs hold none of them."""
    journal = MemoryJournal()
    executor = Executor(TOOLS, journal=journal)
    await executor.run(Plan([Call("1", "draw")]), run_id="r")
    report = await Executor(TOOLS, journal=journal).run(Plan([Call("1", "draw")]), run_id="r")
    assert report["1"].value == Media(PNG, name="a.png")
    assert "PNG" not in repr(report["1"])
    assert B64[:20] not in json.dumps(report.to_dict())
    assert B64[:20] not in caplog.text


def test_media_are_made_of_what_is_at_hand(tmp_path):
    """Types by magic numbers, names and addresses; nothing in texts that is not theirs."""
    path = tmp_path / "chart.png"
    path.write_bytes(PNG)
    assert Media(path) == Media(PNG, name="chart.png", type="image/png")
    assert Media(bytearray(PNG)).type == "image/png"
    assert Media(b"???").type == "application/octet-stream"
    assert Media(b"a,b", name="x.csv").type == "text/csv"
    assert Media(url="https://x.test/s.mp3?k=1").type == "audio/mpeg"
    assert str(Media(PNG, name="a.png")) == f"[image/png, {len(PNG)} bytes, a.png]"
    assert "secret" not in repr(Media(url="https://x.test/?secret"))
    assert Media(PNG)._repr_mimebundle_()["image/png"] == B64
    for wrong in ({}, {"data": PNG, "url": "x"}, {"data": "text"}):
        with pytest.raises(DagexecError):
            Media(**wrong)


@pytest.mark.integration
def test_a_tool_node_gives_content_blocks():
    """LangChain's own, and a reference gets the value."""
    pytest.importorskip("langgraph")
    from langchain_core.messages import AIMessage
    from langgraph.graph import START, MessagesState, StateGraph

    from dagexec.integrations.langgraph import DagToolNode

    graph = StateGraph(MessagesState)
    graph.add_node("tools", DagToolNode(TOOLS))
    graph.add_edge(START, "tools")
    calls = [
        {"name": "draw", "args": {}, "id": "1", "type": "tool_call"},
        {"name": "size", "args": {"image": {"$ref": "1"}}, "id": "2", "type": "tool_call"},
    ]
    import anyio

    message = AIMessage("", tool_calls=calls)
    result = anyio.run(graph.compile().ainvoke, {"messages": [message]})
    first, second = result["messages"][1:]
    assert first.content == [{"type": "image", "base64": B64, "mime_type": "image/png"}]
    assert second.content == str(len(PNG))


SERVER = """
import base64
from mcp.server.mcpserver import Image, MCPServer
from mcp_types import BlobResourceContents, EmbeddedResource, ResourceLink, TextContent
server = MCPServer("pictures")
PNG = base64.b64decode({png!r})

@server.tool()
def picture() -> Image:
    "Draw."
    return Image(data=PNG, format="png")

@server.tool(structured_output=False)
def several() -> list:
    "Draw more."
    blob = BlobResourceContents(uri="file:///a.pdf", mime_type="application/pdf", blob="JVBERi0=")
    return [
        TextContent(type="text", text="see"),
        Image(data=PNG, format="png"),
        EmbeddedResource(type="resource", resource=blob),
        ResourceLink(type="resource_link", name="far", uri="https://x.test/far.png"),
    ]

server.run("stdio")
"""


@pytest.mark.anyio
@pytest.mark.real_time
@pytest.mark.integration
async def test_contents_of_an_mcp_server(tmp_path, mark):
    """Images, resources and links are Media."""
    pytest.importorskip("mcp")
    from dagexec.integrations.mcp import MCPTools

    file = Path(tmp_path / "server.py")
    file.write_text(SERVER.format(png=B64))
    async with MCPTools([sys.executable, str(file), mark]) as tools:
        report = await Executor(tools).run([Call("1", "picture"), Call("2", "several")])
        assert report["1"].value == Media(PNG, type="image/png")
        text, image, document, link = report["2"].value
        assert text == "see"
        assert image == report["1"].value
        assert document == Media(b"%PDF-", type="application/pdf", name="a.pdf")
        assert link == Media(url="https://x.test/far.png", name="far", type="image/png")
