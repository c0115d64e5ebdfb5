"""What is said about JSON Schemas, and arguments that are checked against one.

The texts are for a model: they name the argument, what is wrong with it, what was given and what
is allowed. They never hold the value of a secret argument, and never more of a value than fits in
a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, Protocol, TypeGuard, cast, final

from dagexec._core.json_form import exact_form
from dagexec._core.refs import Ref, holds_each, references
from dagexec._core.resolving import resolve

_TEXT: Final = 60  # characters of one string that are shown
_ITEMS: Final = 4  # members of a container that are shown
_SHOWN: Final = 120  # characters of a whole value that are shown
_PROBLEMS: Final = 8  # problems that are named before the rest is counted
_COMPARED: Final = 100  # parameters that a wrong name is compared with
_EXPECTED: Final = 20  # parameters that are named before the rest is counted


class Arguments(Protocol):
    """How one tool's arguments are described and checked."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of all arguments, an object."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The value of each argument that may be left out, where it is known."""
        ...

    @property
    def description(self) -> str:
        """What the function's own documentation says of it."""
        ...

    @property
    def context(self) -> str | None:
        """The parameter that gets the call's context."""
        ...

    @property
    def secret(self) -> tuple[str, ...]:
        """The arguments whose values appear in no text."""
        ...

    def adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, or what calls it with keyword arguments only."""
        ...

    @property
    def open(self) -> bool:
        """Whether arguments may be given that the schema does not name."""
        ...

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any] | list[str]:
        """Return the keyword arguments for the function, or what is wrong."""
        ...

    def problems(self, args: Mapping[str, Any]) -> list[str]:
        """Return what is wrong, as far as it shows while references are unresolved."""
        ...


@final
class OpenArguments:
    """Arguments that fit, whatever they are: a framework checks them."""

    __slots__ = ("defaults", "secret")
    schema: Final[dict[str, Any]] = {"type": "object", "properties": {}}
    description = ""
    context = None
    open = True

    def __init__(self, defaults: Mapping[str, Any], secret: tuple[str, ...]) -> None:
        """Keep what resources and texts need to know."""
        self.defaults = defaults
        self.secret = secret

    def adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself."""
        return function

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as they are."""
        return cast("dict[str, Any]", args) if type(args) is dict else dict(args)

    def problems(self, args: Mapping[str, Any]) -> list[str]:
        """Return nothing."""
        del args
        return []


def known(args: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Split arguments into those whose values are known and the names of those with references."""
    values: dict[str, Any] = {}
    pending: list[str] = []
    for name, value in args.items():
        if next(references(value), None) is None and not holds_each(value):
            # Literals, and templates without references, are values already.
            values[name] = resolve(value, _unreachable)
        else:
            pending.append(name)
    return values, pending


def _unreachable(ref: Ref) -> Any:  # pragma: no cover - there is no reference left to look up
    raise AssertionError(ref)


def fitted(
    validate: Callable[[Mapping[str, Any]], dict[str, Any] | list[str]], args: Mapping[str, Any]
) -> dict[str, Any] | list[str]:
    """Return what `validate` returns of the arguments, or of their JSON forms if only those fit.

    What a model would copy fits by reference too: a date where a text is wanted, one model where
    another is. An argument that fits as the object that it is stays that object.
    """
    found = validate(args)
    if isinstance(found, dict):
        return found
    forms = {
        name: form for name, value in args.items() if not _equal(form := exact_form(value), value)
    }
    if not forms or isinstance(validate({**args, **forms}), list):
        return found
    for name in tuple(forms):
        form = forms.pop(name)
        if isinstance(validate({**args, **forms}), list):
            forms[name] = form
    return validate({**args, **forms})


def _equal(form: Any, value: Any) -> bool:
    if form is value:
        return True
    try:
        return type(form) is type(value) and bool(form == value)
    except Exception:  # noqa: BLE001 - an array, say, whose comparison is no truth
        return False


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Say whether a value is a JSON object; a guard, since dict alone says nothing of its items."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Say whether a value is a JSON array."""
    return isinstance(value, list)


# --- texts ---------------------------------------------------------------------------------------


def shorten(value: Any) -> str:
    """Return a value in at most a line: JSON where it is JSON, else only its type."""
    text = _shown(value, 2)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _shown(value: Any, depth: int) -> str:
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)
    if isinstance(value, str):
        cut = value if len(value) <= _TEXT else value[:_TEXT] + "…"
        return json.dumps(str(cut), ensure_ascii=False)
    if isinstance(value, int):
        # Python refuses to write out very long numbers, and nobody would read one.
        return str(int(value)) if abs(value) < 10**_TEXT else "a very large integer"
    kind = cast("type[object]", type(value))
    if kind not in {dict, list, tuple}:
        return f"a value of type {kind.__name__}"
    opening, closing = "{}" if kind is dict else "[]"
    more = ["…"] if len(value) > _ITEMS else []
    if value and not depth:
        return f"{opening}…{closing}"
    if kind is dict:
        pairs = islice(value.items(), _ITEMS)
        shown = [f"{_shown(str(key), 0)}: {_shown(item, depth - 1)}" for key, item in pairs]
    else:
        shown = [_shown(item, depth - 1) for item in value[:_ITEMS]]
    return opening + ", ".join(shown + more) + closing


def type_word(schema: object, root: Mapping[str, Any], depth: int = 4) -> str:
    """Return the kind of value that a schema asks for, in a word or a few."""
    if not is_object(schema) or not depth:
        return "any"
    ref = schema.get("$ref")
    if isinstance(ref, str):
        return type_word(_definition(ref, root), root, depth - 1)
    if is_list(schema.get("enum")):
        return "one of " + ", ".join(shorten(item) for item in schema["enum"][:_EXPECTED])
    if "const" in schema:
        return shorten(schema["const"])
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if is_list(alternatives):
        words = [type_word(item, root, depth - 1) for item in alternatives[:_EXPECTED]]
        return " or ".join(dict.fromkeys(words))
    return _typed(schema, root, depth)


def _definition(ref: str, root: Mapping[str, Any]) -> object:
    """Return what a `$ref` means, where it is in the usual places."""
    named: Any = root.get("$defs") or root.get("definitions")
    return named.get(ref.rpartition("/")[2]) if is_object(named) else None


def _typed(schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> str:
    kind = schema.get("type", "any")
    if is_list(kind):
        return " or ".join(str(item) for item in kind)
    if kind == "array" and is_object(schema.get("items")):
        return f"array of {type_word(schema['items'], root, depth - 1)}"
    return str(kind)


def expected(schema: Mapping[str, Any], secret: Collection[str]) -> str:
    """Return which arguments a schema allows: `query (string, required), limit (integer, …)`."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = schema.get("required", ())
    if not properties:
        return "no arguments"
    texts: list[str] = []
    for name, part in islice(properties.items(), _EXPECTED):
        note = "required" if name in required else "optional"
        if is_object(part) and "default" in part and name not in secret:
            note = f"default {shorten(part['default'])}"
        texts.append(f"{name} ({type_word(part, schema)}, {note})")
    rest = len(properties) - _EXPECTED
    return ", ".join(texts) + (f" and {rest} more" if rest > 0 else "")


def explain(
    name: str, problems: Iterable[str], schema: Mapping[str, Any], secret: Collection[str]
) -> str:
    """Return the whole answer to a model whose arguments do not fit."""
    listed = list(dict.fromkeys(problems))
    rest = len(listed) - _PROBLEMS
    text = "; ".join(listed[:_PROBLEMS]) + (f"; and {rest} more problems" if rest > 0 else "")
    return f"Wrong arguments for {name}: {text}. Expected: {expected(schema, secret)}."


def unknowns(given: Iterable[object], allowed: Collection[str]) -> list[str]:
    """Return the texts for those arguments that the tool does not have; no value is shown.

    The first ones say what was probably meant: no more of them are shown, and comparing costs.
    """
    texts: list[str] = []
    for name in given:
        if name not in allowed:
            shown = str(name)[:_TEXT]
            hinted = len(texts) < _PROBLEMS
            near = get_close_matches(shown, list(islice(allowed, _COMPARED)), 1) if hinted else ()
            hint = f" (did you mean {near[0]}?)" if near else ""
            texts.append(f"{shown}: unknown argument{hint}")
    return texts


def missing(name: str) -> str:
    """Return the text for an argument that has to be given."""
    return f"{name}: missing"


def concealed(name: str, schema: Mapping[str, Any]) -> str:
    """Return the text for a secret argument that does not fit: nothing of it is shown."""
    part = schema.get("properties", {}).get(name)
    return f"{name}: should be a valid {type_word(part, schema)} (its value is secret, not shown)"


def at(path: Iterable[str | int]) -> str:
    """Return a place inside the arguments: `filters.tags[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + str(part)[:_TEXT]
    return text


def without_titles(schema: Any) -> Any:
    """Return a schema without its titles: they repeat the names, and every token costs."""
    if is_list(schema):
        return [without_titles(item) for item in schema]
    if not is_object(schema):
        return schema
    short: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in {"default", "const", "enum", "examples", "example"}:
            short[key] = value  # data, not schemas
        elif key in {"properties", "$defs", "patternProperties"} and is_object(value):
            short[key] = {name: without_titles(part) for name, part in value.items()}
        else:
            short[key] = without_titles(value)
    return short


def holds_secret(schema: Any, root: Mapping[str, Any], seen: set[str] | None = None) -> bool:
    """Say whether a schema has a part that is marked as a password, as pydantic's secrets are.

    `seen` are the definitions that were looked into: once is enough.
    """
    seen = set() if seen is None else seen
    if is_list(schema):
        return any(holds_secret(item, root, seen) for item in schema)
    if not is_object(schema):
        return False
    if schema.get("format") == "password":
        return True
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref not in seen:
        seen.add(ref)
        if holds_secret(_definition(ref, root), root, seen):
            return True
    return any(holds_secret(item, root, seen) for item in schema.values())
