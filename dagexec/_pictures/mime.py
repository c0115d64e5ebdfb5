"""How an object shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Container


class ShowsItself:
    """Something with a picture and a text; a notebook gets the form that it asks for."""

    __slots__ = ()

    def _forms(self) -> tuple[Callable[..., str], Callable[[], str]]:
        """Return what makes the picture, of a `theme`, and what makes the text."""
        raise NotImplementedError

    def _repr_svg_(self) -> str:
        """Show itself in a notebook."""
        from dagexec._pictures.adaptive import adaptive

        return adaptive(self._forms()[0]())

    def _repr_html_(self) -> str:
        """Show itself in a notebook, in the colours of its theme."""
        from dagexec._pictures.adaptive import themed

        draw = self._forms()[0]
        return themed(draw(), draw(theme="dark"))

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Show itself in a notebook, as picture and as text."""
        forms = {
            "text/html": self._repr_html_,
            "image/svg+xml": self._repr_svg_,
            "text/plain": self._forms()[1],
        }
        return {
            kind: make()
            for kind, make in forms.items()
            if (include is None or kind in include) and (exclude is None or kind not in exclude)
        }
