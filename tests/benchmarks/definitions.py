"""What a catalogue of tools costs with references: python -m tests.benchmarks.definitions FILE.

FILE holds a JSON list of tools as an MCP server lists them: name, description, inputSchema.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dagexec.lowlevel import widened


def characters(tools: list[dict[str, Any]], change: Any) -> int:
    """Return how many characters the tools take as JSON, with their schemas changed."""
    return sum(
        len(json.dumps({**tool, "inputSchema": change(tool["inputSchema"])})) for tool in tools
    )


def main() -> None:
    """Print the figures of one file."""
    tools = json.loads(Path(sys.argv[1]).read_text())
    plain = characters(tools, dict)
    print(f"{len(tools)} tools, {plain} characters")
    for name, change in (("short", widened), ("exact", lambda part: widened(part, exact=True))):
        wide = characters(tools, change)
        print(f"with references ({name}): {wide}, {wide / plain:.3f} times")


if __name__ == "__main__":
    main()
