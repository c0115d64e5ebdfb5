'''The command `dagexec`: run, show and check plans and the replies of models.

Tools stand in a Python file:

```python
# my_tools.py
from dagexec import tool


@tool(effect="read")
async def search(query: str) -> list[dict[str, str]]:
    """Search the web."""
    return [{"title": query.title()}]


@tool(effect="pure")
async def shout(text: str) -> str:
    """Write in capitals."""
    return text.upper()
```

A plan is JSON, here `plan.json`:

```json
{"calls": [
  {"id": "s", "tool": "search", "args": {"query": "graphs"}},
  {"id": "t", "tool": "shout", "args": {"text": {"$ref": "s[0].title"}}}
]}
```

```console
$ dagexec demo                                   # three APIs, real tools, no key
$ dagexec check plan.json --tools my_tools.py    # every problem, one a line
$ dagexec show plan.json                         # the graph; also of a reply or a report
$ dagexec show plan.json --as mermaid            # or svg, json; --timeline of a report
$ dagexec run plan.json --tools my_tools.py --json-indent 2
$ dagexec doctor 1143                            # why these processes hang, on Linux
```

FILE is a plan, a program (`.py`), or a reply of one of the three APIs as JSON, which `run`
answers with the messages that go back (`--report` prints the report instead); `-` reads stdin.
Results go to stdout, as JSON where they are data. stderr shows the run: on a terminal a live
table of what runs, failed or is slow, and the critical path (`--display live|plain|none`,
`DAGEXEC_DISPLAY`, `NO_COLOR`).

`dagexec serve --tools my_tools.py` is an MCP server with one tool, which takes a plan, so that
any client can send a graph; `--http 8000` serves by HTTP on the loopback address. A client's
configuration:

```json
{"mcpServers": {"plans": {"command": "dagexec", "args": ["serve", "--tools", "my_tools.py"]}}}
```

Journals: `dagexec run … --journal FILE --run-id RUN`, `dagexec runs`, `dagexec show RUN`, and
`dagexec resume RUN --tools … --answer ID=approve`, which asks for what is missing at a terminal;
of a program's run it needs `--program FILE` too.

Exit codes: 0 all calls are done, 1 some call is not, 2 the plan or the usage is wrong, 130
interrupted; `doctor` has its own, see `dagexec.doctor`.

Further commands come from the entry points `dagexec.commands`: functions of the arguments and of a
`Terminal`, whose `watch` runs a plan before the user's eyes; they return an exit code.
'''

from __future__ import annotations

from dagexec.cli._main import main
from dagexec.cli._terminal import Terminal

__all__ = ["Terminal", "main"]
