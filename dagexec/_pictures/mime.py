"""How an object shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Container


class ShowsItself:
    """Something with a picture and a text; a notebook gets the form that it asks for."""

    __slots__ = ()

    def _forms(self) -> tuple[Callable[[], str], Callable[[], str]]:
        """Return what makes the picture, and what makes the text."""
        raise NotImplementedError

    def _repr_svg_(self) -> str:
        """Show itself in a notebook."""
        return self._forms()[0]()

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Show itself in a notebook, as picture and as text."""
        kinds = ("image/svg+xml", "text/plain")
        return {
            kind: make()
            for kind, make in zip(kinds, self._forms(), strict=True)
            if (include is None or kind in include) and (exclude is None or kind not in exclude)
        }
