"""The arguments that tools declare secret: what of them is a secret, and who has declared them.

A secret is what is written in such an argument. A reference in it is none: it says where the value
comes from, and keeps the graph whole without it.

What shows a call (`repr`, a log line, an event in a debugger) does not know its executor: secrets
are declared by the tools' names, too. A name that two tools share hides the arguments of both,
which costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, cast

from dagexec._core.refs import MISSING, Each, Ref, Template, references

# What is shown instead of a secret value.
SHOWN: Final = "<secret>"

_declared: Final[dict[str, frozenset[str]]] = {}


def declare(tool: str, names: Collection[str]) -> None:
    """Note that a tool has secret arguments."""
    if names:
        _declared[tool] = _declared.get(tool, frozenset()).union(names)


def declared(tool: str) -> frozenset[str]:
    """Return the names of the secret arguments of the tools of this name."""
    return _declared.get(tool, frozenset())


def shown_of_any(args: object) -> object:
    """Return arguments of a tool that is not known, hidden by the names that any tool declares."""
    if not isinstance(args, Mapping):
        return args
    names = frozenset[str]().union(*_declared.values())
    given = cast("Mapping[str, Any]", args)
    return {name: SHOWN if name in names else value for name, value in given.items()}


def shown(tool: str, args: Mapping[str, Any], more: Collection[str] = ()) -> Mapping[str, Any]:
    """Return arguments with secret values hidden, the same object if none is; references stay.

    `more` are further names of secret arguments.
    """
    names = declared(tool).union(more)
    hidden = {name: without(args[name], SHOWN) for name in names if name in args}
    secret = [name for name, value in hidden.items() if value is not args[name]]
    return {**args, **{name: hidden[name] for name in secret}} if secret else args


def is_written(value: object) -> bool:
    """Whether a part of a decoded argument is written in it, rather than that it refers to a value.

    None says that there is nothing, and keys are names.
    """
    if isinstance(value, Ref):
        return value.default is not MISSING and value.default is not None
    if isinstance(value, Each):
        return is_written(value.items)
    if isinstance(value, Template):
        texts = (part for part in value.parts if isinstance(part, str))
        return any(map(str.strip, texts)) or any(map(is_written, value.refs))
    return any(map(is_written, _items(value))) if _holds(value) else value is not None


def without(value: Any, mark: Any) -> Any:
    """Return a decoded secret argument with `mark` in the place of what is written in it.

    Its references and lists of items stay, in order, and make the same graph.
    """
    if any(_parts(value)) and not is_written(value):
        return value
    if isinstance(value, Ref):
        return Ref(value.call, value.path, mark)
    if isinstance(value, Each):
        if isinstance(value.items, Ref):
            return Each(without(value.items, mark))
        return Each((mark,) * len(value.items))
    parts = [without(each, mark) for each in _parts(value)]
    return [mark, *parts] if parts else mark


def is_marked(value: object, mark: object) -> bool:
    """Whether something was left out of a decoded argument by `without`."""
    if type(value) is type(mark) and bool(value == mark):
        return True
    if isinstance(value, Ref):
        return is_marked(value.default, mark)
    if isinstance(value, Each):
        return is_marked(value.items, mark)
    return any(is_marked(each, mark) for each in _items(value)) if _holds(value) else False


def _parts(value: Any) -> Iterator[Ref | Each]:
    """Yield the references in a decoded argument, those of a list of items inside of it."""
    if isinstance(value, Each):
        yield value
    elif _holds(value):
        for each in _items(value):
            yield from _parts(each)
    else:
        yield from references(value)


def _holds(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _items(value: object) -> Collection[Any]:
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).values()
    return cast("Collection[Any]", value)
