"""The text of a value as a model sees it, where it could be imported from before `_core` was there.

Nothing here uses it: `planners._core.render` is the place.
"""

from planners._core.render import value_text

__all__ = ["value_text"]
