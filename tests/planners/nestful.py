"""Nested plans of the kind of IBM's NESTFUL (arXiv 2409.03797), made from a seed.

In NESTFUL the arguments of calls are fields of earlier calls' results. A case here holds the calls
as a model writes them, and what has to come of them: edges, the arguments that each tool receives,
and each value. All of it is computed here, on plain data, with nothing of dagexec: a path is chosen
by walking into the value, and its text is written beside.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

FIELDS = ("url", "items", "name", "total", "id", "geo-code", "city_name", "größe", "x1")
ODD_FIELDS = ("a.b", "with space", "[0]", 'quo"te', "brace}", "$ref")
TEXTS = ("$5", "${HOME}", "{{x}}", "$1", "${1.items[0]}", "$ref", "{}", "100%", "", "Zürich ☃")
POISON = ({"$ref": "1"}, {"$template": "${1}"}, {"$literal": 3}, {"$ref": 1, "extra": []})


@dataclass
class Step:
    """A call: what the model writes, and what must come of it."""

    number: int
    tool: str
    written: dict[str, Any]
    received: dict[str, Any]
    value: Any
    needs: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@dataclass
class Case:
    """A plan of 2 to 7 calls."""

    seed: int
    steps: list[Step]

    @property
    def edges(self):
        """The dependencies, as pairs of ids."""
        return {(str(need), str(step.number)) for step in self.steps for need in step.needs}

    @property
    def shape(self):
        """What makes two plans alike: which call uses which, by paths of which form."""
        return tuple(tuple(sorted(zip(step.needs, step.paths, strict=True))) for step in self.steps)

    @property
    def roots(self):
        """How many calls wait for nothing."""
        return sum(not step.needs for step in self.steps)


def output(tool, args):
    """Return what a tool returns: a structure that depends on its name and its arguments only."""
    text = json.dumps([tool, args], sort_keys=True)
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    return {"items": [_leaf(rng)], **_structure(rng, 2)}


def _structure(rng, depth):
    names = rng.sample(FIELDS, 3) + ([rng.choice(ODD_FIELDS)] if rng.random() < 0.2 else [])
    return {name: _node(rng, depth) for name in names}


def _node(rng, depth):
    kind = rng.random() if depth else 1
    if kind < 0.3:
        return _structure(rng, depth - 1)
    if kind < 0.6:
        return [_node(rng, depth - 1) for _ in range(rng.randint(1, 4))]
    return _leaf(rng)


def _leaf(rng):
    number = rng.randint(-10, 10**6)
    return rng.choice([number, number / 8, f"v{number}", True, None, [], *TEXTS, *POISON])


def _walk(rng, value):
    """Choose a place inside a value; return what is there, the path's text, and its form."""
    text = form = ""
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        if isinstance(value, dict) and value and not any(value == item for item in POISON):
            name = rng.choice(list(value))
            plain = not set(name) & set(".[]\"'{} ")
            text += f".{name}" if plain else f"[{json.dumps(name)}]"
            form += ".f" if plain else "[k]"
            value = value[name]
        elif isinstance(value, list) and value:
            index = rng.randrange(len(value))
            text += f"[{index}]"
            form += "[N]"
            value = value[index]
    return value, text, form


def make(seed):
    """Return the case of a seed."""
    rng = random.Random(seed)
    size = rng.randint(2, 7)
    # Every fifth plan is written out of order: references to calls further down.
    order = list(range(1, size + 1))
    if seed % 5 == 4:
        rng.shuffle(order)
    steps: list[Step] = []
    for index, number in enumerate(order):
        steps.append(_step(rng, number, steps if index else []))
    return Case(seed, sorted(steps, key=lambda step: step.number))


def _step(rng, number, before):
    step = Step(number, f"tool_{rng.randint(0, 9)}", {}, {}, None)
    if before and rng.random() < 0.85:
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            _refer(rng, step, rng.choice(before))
    for _ in range(rng.randint(0, 2)):
        literal = rng.choice([*TEXTS, 7, 2.5, True, None, ["$1", {"a": "${1}"}], {"b": [1]}])
        _put(step, literal, literal)
    if rng.random() < 0.1:
        literal = rng.choice(POISON)
        _put(step, {"$literal": literal}, literal)
    step.value = output(step.tool, step.received)
    return step


def _refer(rng, step, source):
    value, path, form = _walk(rng, source.value)
    reference = {"$ref": f"{source.number}{path}"}
    style = rng.random()
    if style < 0.6:
        _put(step, reference, value)
    elif style < 0.75:
        _put(step, ["$5", reference], ["$5", value])
    elif style < 0.85:
        _put(step, {"in": {"deep": reference}}, {"in": {"deep": value}})
    else:
        shown = value if isinstance(value, str) else json.dumps(value, **COMPACT)
        _put(step, {"$template": f"$$5 for ${{{source.number}{path}}}!"}, f"$5 for {shown}!")
    if source.number not in step.needs:
        step.needs.append(source.number)
        step.paths.append(form)


COMPACT: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}


def _put(step, written, received):
    name = f"arg_{len(step.written)}"
    step.written[name] = written
    step.received[name] = received
