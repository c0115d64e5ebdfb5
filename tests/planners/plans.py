"""Texts of plans that several tests read, and how they are read."""

from __future__ import annotations

from planners.llmcompiler._grammar import Reader
from planners.llmcompiler._items import Numbered

NAMES = {"search", "math", "write", "note"}

DRAFT = '1. write("draft")\n2. join()<END_OF_PLAN>\nno, better:\n'
FINAL = '1. write("final")\n2. join()<END_OF_PLAN>'
THOUGHT = [
    f"<think>\nmaybe\n{DRAFT}</think>\n{FINAL}",
    f"<think>{DRAFT}</think>{FINAL}",
    f"  <Thinking>\n{DRAFT}</THINKING >\n\n{FINAL}",
    f'<reasoning effort="high">{DRAFT}</reasoning> {FINAL}',
    f"Thought: well\n<think>\n{DRAFT}</think>\n{FINAL}",
    f"<thinking>\n<think>{DRAFT}</think>\n{DRAFT}</thinking>\n{FINAL}",
    f"<think>a</think>\n<think>{DRAFT}</think>\n{FINAL}",
    f'<think>1. write("\n{DRAFT}</think>\n{FINAL}',
    f'<think>{{"action": "finish", "answer": "no"}}</think>\n{FINAL}',
]
STRIPPED = [
    f"maybe\n{DRAFT}</think>\n{FINAL}",
    f'1. write("draft") </think>\n{FINAL}',
    f'1. write("draft")\nso be it.</think>{FINAL}',
    f'1. write("draft"\n1. write("dra</think>\n{FINAL}',
    f'1. write("draft")\n2. join()</thinking>\n{FINAL}',
    f'{{"action": "finish", "answer": "no"}}\n</think>\n{FINAL}',
    f"Action: Finish(no)\nor not\n</think>\n{FINAL}",
    f'{{"action": "finish", "answer": no\n</think>\n{FINAL}',
    f'<think>a <think>{DRAFT}</think>\n1. write("draft")\n</think>\n{FINAL}',
    f'{{"a": 1}} 1. write("draft") </think>\n{FINAL}',
]

# Lines that are call 1, search("x").
FOREIGN = [
    '\ufeff1. search("x")',
    '\u200b1. search("x")',
    '\u00a0\u00a01. search("x")',
    '1.\u2060sea\u00adrch("x")',
    '\uff11. search("x")',
    '\u0661) search("x")',
    '1\u3001search("x")',
    '1\uff0esearch("x")',
    '\uff11\u3002 search("x")',
    '1\uff1asearch\uff08"x"\uff09',
    '1. search\uff08"x"\uff09;',
    '1. search\u00a0("x")',
    '\u2460 search("x")',
    '\u2488 search("x")',
    '\u2022 1. search("x")',
    '+ 1. search("x")',
    '- [ ] 1. search("x")',
    '- [x] 1. search("x")',
    '1. **search**("x")',
    '1. `search`("x")',
    '1. ***search***("x")<END_OF_PLAN>',
    '**1.** **`search`**("x")',
    'Step 1: **search**("x")',
    '<plan>1. search("x")',
]


def read(*pieces):
    """Return the items of a text that comes in pieces."""
    reader = Reader(NAMES)
    items = [item for piece in pieces for item in reader.feed(piece)]
    return items + reader.close()


def calls(text):
    """Return the calls of a text, each by its number."""
    return {item.number: item for item in read(text) if isinstance(item, Numbered)}


def make(name):
    """Return a tool that takes whatever it is given."""

    def tool(a=None, b=None, c=None, d=None, **rest):
        """Do nothing."""

    tool.__name__ = tool.__qualname__ = name
    return tool
