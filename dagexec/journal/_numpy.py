"""numpy's scalars and arrays as JSON: in numpy's own format for files, without its pickles.

numpy is never imported before a value of it is written or read.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

from dagexec._errors import JournalError


def _numpy() -> Any:
    return import_module("numpy")


def is_numpy(kind: type) -> bool:
    """Whether a class is that of numpy's arrays, or of one of its scalars."""
    if kind.__module__ != "numpy":
        return False
    np = _numpy()
    return bool(kind is np.ndarray or issubclass(kind, np.generic))


def numpy_written(value: Any, pack: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a scalar or an array as JSON; the objects of an array of objects are packed."""
    np = _numpy()
    scalar = isinstance(value, np.generic)
    if value.dtype.hasobject:
        if value.dtype != object:
            msg = f"an array of {value.dtype} cannot be recorded: it holds objects in its fields"
            raise JournalError(msg)
        items = [pack(item) for item in value.ravel()]
        return {"objects": items, "shape": list(value.shape)}
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=False)
    return {"npy": base64.b64encode(buffer.getvalue()).decode(), "scalar": scalar}


def numpy_read(body: dict[str, Any]) -> Any:
    """Return the scalar or array that was written; raises ImportError without numpy."""
    np = _numpy()
    if "objects" in body:
        found = np.empty(len(body["objects"]), dtype=object)
        for index, item in enumerate(body["objects"]):
            found[index] = item
        return found.reshape(body["shape"])
    buffer = io.BytesIO(base64.b64decode(body["npy"]))
    array = np.lib.format.read_array(buffer, allow_pickle=False)
    return array[()] if body["scalar"] else array
