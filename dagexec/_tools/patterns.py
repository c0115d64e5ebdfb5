"""What a schema from elsewhere may cost: its patterns, and the steps of a check.

A pattern such as `^(a+)+$` keeps Python's `re` busy for ever with a few characters, in the event
loop. So patterns are matched by an engine whose time grows with the text's length alone, the one of
pydantic. It knows no look-around and no back-references: a pattern with these is not checked, and
named in the log. References that branch, each to two others, can double a check with each step: it
ends behind a limit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, final

from jsonschema import validators
from jsonschema.exceptions import ValidationError
from pydantic_core import SchemaError, SchemaValidator, core_schema

from dagexec._core.copies import PLAIN

_log: Final = logging.getLogger("dagexec")

# References that a check may follow, for any value, and beside that for each part of one.
MOST_STEPS: Final = 20_000
_FOR_EACH: Final = 20
_LONGEST: Final = 5000  # characters of a pattern
_SHOWN: Final = 60


@final
class TooManySteps(Exception):
    """A check follows more references than it may."""


@final
class Steps:
    """Counts the references that one check follows.

    The check that goes on in a context is held by it: the validators are shared by all schemas, and
    by threads.
    """

    __slots__ = ("_left", "_value")

    def __init__(self, value: Any) -> None:
        """Begin the check of a value."""
        self._left = MOST_STEPS
        self._value = value

    def take(self) -> None:
        """Follow a reference; raise TooManySteps behind the limit."""
        self._left -= 1
        if self._left < 0:
            if self._value is None:
                raise TooManySteps
            # Only now is it worth to see how large it is.
            self._left = _FOR_EACH * _parts(self._value)
            self._value = None


# The check that goes on.
under_way: ContextVar[Steps | None] = ContextVar("dagexec_check", default=None)


def _parts(value: Any) -> int:
    count = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        count += 1
        if type(item) in PLAIN:
            continue
        if isinstance(item, dict):
            waiting.extend(item.values())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        elif isinstance(item, list | tuple):
            waiting.extend(item)  # pyright: ignore[reportUnknownArgumentType]
    return count


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Callable[[str], bool] | None:
    """Return what finds a pattern in a text; None where it cannot be done in linear time."""
    try:
        if len(pattern) <= _LONGEST:
            schema = core_schema.str_schema(pattern=pattern, strict=True)
            return SchemaValidator(schema).isinstance_python
    except SchemaError:
        pass  # look-around, references back, or too large
    text = "the pattern %r in a tool's schema is not checked: it cannot be in linear time"
    _log.info(text, pattern[:_SHOWN])
    return None


@lru_cache(maxsize=64)
def careful(kind: Any, *, patterned: bool) -> Any:
    """Return a validator's class with rules of ours for some keywords.

    `patterned` says whether a part of the schema has rules for names by pattern. Made once for each
    class of validators: the library makes attrs classes, which are never quite given back.
    """
    follows: Any = kind.VALIDATORS.get("$ref")
    changed: dict[str, Any] = {"pattern": _pattern}

    def followed(validator: Any, ref: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if (steps := under_way.get()) is not None:
            steps.take()
        yield from follows(validator, ref, instance, schema) or ()

    if follows is not None:
        changed["$ref"] = followed
    if patterned:
        changed["patternProperties"] = _pattern_properties
        changed["additionalProperties"] = _additional_properties
        changed["unevaluatedProperties"] = _nothing
    # Any: the library's own types of it are partly unknown.
    extend: Any = vars(validators)["extend"]
    return extend(kind, changed)


def _nothing(*_: Any) -> tuple[()]:
    return ()


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string"):
        found = matcher(pattern)
        if found is not None and not found(instance):
            yield ValidationError(f"does not match {pattern!r}")


def _pattern_properties(validator: Any, rules: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, rule in rules.items():
        found = matcher(pattern)
        for name, value in instance.items():
            if found is not None and found(name):
                yield from validator.descend(value, rule, path=name, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    known = schema.get("properties", {})
    matchers = [matcher(pattern) for pattern in schema.get("patternProperties", {})]
    extra = [
        name
        for name in instance
        # A name that a pattern which is not checked could match is nobody's fault.
        if name not in known and not any(found is None or found(name) for found in matchers)
    ]
    if validator.is_type(rule, "object"):
        for name in extra:
            yield from validator.descend(instance[name], rule, path=name)
    elif not rule and extra:
        yield ValidationError("additional properties")
