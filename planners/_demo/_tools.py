"""Real tools of a small bookshop: its files, its database, a web site, a process of its own.

Everything is made in a temporary folder and on the loopback interface, and gone at the end.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

import anyio

from dagexec import Tool, tool

_ORDERS: Final = [("Dune", 3), ("Emma", 2), ("Dune", 4), ("Ulysses", 1), ("Emma", 1)]
_NOTES: Final = {
    "monday.txt": "Two customers asked for a map of Arrakis.\n",
    "tuesday.txt": "The shelf with the classics needs more light.\n",
}
_PAGES: Final = {
    "/prices/Dune": {"title": "Dune", "price": 9.5, "shops": ["Alba", "Brand"]},
    "/prices/Emma": {"title": "Emma", "price": 7.25, "shops": ["Brand"]},
}
_COUNT_WORDS: Final = "import sys; print(len(sys.stdin.read().split()))"


@final
class Shop:
    """The shop's folder, database and web site; made by `open_shop`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port

    @property
    def tools(self) -> list[Tool[..., Any]]:
        """The tools that a model may call."""
        return [
            self.query,
            self.list_notes,
            self.read_note,
            self.write_note,
            self.fetch,
            self.count,
        ]

    @tool(name="query", effect="read")
    def query(self, sql: str) -> list[dict[str, Any]]:
        """Ask the shop's database; the table orders has title and copies.

        It waits for the disk, so it is no async function and runs in a thread.
        """
        with closing(sqlite3.connect(self._folder / "shop.db")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql)]

    @tool(name="list_notes", effect="read")
    async def list_notes(self) -> list[str]:
        """Return the names of the shop's notes."""
        return sorted([path.name async for path in anyio.Path(self._folder).glob("*.txt")])

    @tool(name="read_note", effect="read", reads="note:{name}")
    async def read_note(self, name: str) -> str:
        """Return the text of a note."""
        return await anyio.Path(self._folder / Path(name).name).read_text("utf-8")

    @tool(name="write_note", effect="idempotent", writes="note:{name}")
    async def write_note(self, name: str, text: str) -> dict[str, Any]:
        """Write a note; return its name and text."""
        await anyio.Path(self._folder / Path(name).name).write_text(text, "utf-8")
        return {"name": name, "text": text}

    @tool(name="fetch", effect="read", timeout=0.6)
    async def fetch(self, path: str) -> Any:
        """Get a page of the web site, as JSON."""
        async with await anyio.connect_tcp("127.0.0.1", self._port) as stream:
            await stream.send(f"GET {path} HTTP/1.0\r\nHost: shop\r\n\r\n".encode())
            answer = b"".join([part async for part in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode()
        if " 200 " not in status:
            msg = f"{path} answered {status}"
            raise OSError(msg)
        return json.loads(body)

    @tool(name="count_words", effect="pure")
    async def count(self, text: str) -> int:
        """Count the words of a text, in a process of its own."""
        ended = await anyio.run_process([sys.executable, "-c", _COUNT_WORDS], input=text.encode())
        return int(ended.stdout)


@contextmanager
def open_shop() -> Generator[Shop]:
    """Make the folder, the database and the web site; take all of it away at the end."""
    with TemporaryDirectory(prefix="dagexec-demo-") as name, _web_site() as port:
        folder = Path(name)
        for note, text in _NOTES.items():
            (folder / note).write_text(text, "utf-8")
        with closing(sqlite3.connect(folder / "shop.db")) as database, database:
            database.execute("create table orders (title text, copies integer)")
            database.executemany("insert into orders values (?, ?)", _ORDERS)
        yield Shop(folder, port)


@contextmanager
def _web_site() -> Generator[int]:
    closing_time = threading.Event()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A site takes its time, and for the reviews far more than any timeout here.
            closing_time.wait(30 if self.path.startswith("/reviews") else 0.2)
            page = _PAGES.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(page).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's names
            """Be silent."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked has not waited
                return

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = False  # so that closing the server waits for them
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            closing_time.set()
            server.shutdown()
            thread.join()
