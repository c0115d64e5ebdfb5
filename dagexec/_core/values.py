"""`value`: small immutable records that cost no more than a plain object to make.

A frozen dataclass sets each field through `object.__setattr__`, which takes three times as long,
and several are made for each call. These are frozen for mypy and pyright, which see an assignment
before it runs; at run time they are plain dataclasses with slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(*, kw_only: bool = False, shown: bool = True) -> Callable[[type[_T]], type[_T]]:
    """Return the decorator that makes a class such a record: compared and hashed by its fields.

    With `shown=False` it keeps the `__repr__` of its base.
    """
    return dataclass(slots=True, unsafe_hash=True, kw_only=kw_only, repr=shown)
