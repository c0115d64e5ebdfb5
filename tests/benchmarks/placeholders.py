"""How often real text is taken for a placeholder: `python -m tests.benchmarks.placeholders`.

Reads the text constants of all Python sources, and the lines and paragraphs of all documents,
pages, templates, style sheets and data files in some folders (by default the standard library and
what is installed beside dagexec), each as if it were an argument of a call.
"""

from __future__ import annotations

import argparse
import ast
import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from planners._core.placeholders import Placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator

# The more tools, the more names a text could happen to hold.
TOOLS = (
    *(
        "search",
        "get_user",
        "get_weather",
        "read_file",
        "write_file",
        "send_email",
        "math",
        "fetch",
    ),
    *(
        "lookup",
        "calculate",
        "query_database",
        "translate",
        "summarize",
        "list_files",
        "book_flight",
    ),
)
SUFFIXES = """
.c .cfg .css .csv .h .htm .html .ini .j2 .jinja .jinja2 .js .json .mako .md .mdx .rst .sh .sql .svg
.tex .tmpl .toml .ts .tsx .txt .xml .yaml .yml
"""
DOCUMENTS = frozenset(SUFFIXES.split())
INSTALLED = "site-packages"
SHOWN = 40


def texts(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield each text with its kind and its file."""
    for path in sorted(folder.rglob("*")):
        kind = "constants of Python" if path.suffix == ".py" else "documents"
        wanted = path.suffix == ".py" or path.suffix in DOCUMENTS
        # Below the standard library's folder there may be a site-packages, which is read by itself.
        if not wanted or not path.is_file() or INSTALLED in path.relative_to(folder).parts:
            continue
        try:
            source = path.read_text("utf-8")
            found = constants(source) if path.suffix == ".py" else parts(source)
            for text in found:
                yield kind, text, path
        except (SyntaxError, ValueError, OSError, RecursionError):
            continue  # written to be broken, or not in UTF-8


def constants(source: str) -> list[str]:
    """Return the text constants of a Python source, the parts of its f-strings too."""
    nodes = ast.walk(ast.parse(source))
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def parts(source: str) -> list[str]:
    """Return the lines and the paragraphs of a document."""
    paragraphs = re.split(r"\n\s*\n", source)
    lines = source.splitlines()
    return [part.strip() for part in (*lines, *paragraphs) if part.strip()]


def main() -> None:
    """Count, and show what was taken for a placeholder."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.placeholders", description=__doc__
    )
    paths = sysconfig.get_paths()
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path(paths["stdlib"]), Path(paths["purelib"])]
    )
    placeholders = Placeholders(TOOLS)
    read: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    hits: list[tuple[Path, str]] = []
    for folder in parser.parse_args().folders:
        for kind, text, path in texts(folder):
            read[kind] += 1
            found = placeholders.match(text)
            if found is not None:
                taken[kind] += 1
                hits.append((path, found[0]))
    for kind, count in read.items():
        print(f"{kind}: {taken[kind]} of {count:,}, {taken[kind] / count * 1e6:.2f} in a million")
    for path, text in hits[:SHOWN]:
        print(f"  {path.name}: {text!r:.120}")


if __name__ == "__main__":
    main()
