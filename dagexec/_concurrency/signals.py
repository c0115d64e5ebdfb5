"""What ends a tool and is no error, and what a group of exceptions comes down to."""

from __future__ import annotations

from typing import Any, cast


class CancelledCall(BaseException):
    """Ends a synchronous tool whose deadline has passed; raised by `CallContext.check`.

    A BaseException, as cancellation is everywhere: `except Exception` must not swallow it.
    """


class Asked(BaseException):
    """Ends a tool that asked a person; the call becomes pending with this question.

    A BaseException, so that a tool's `except Exception` cannot take it for a failure.
    """

    def __init__(self, question: Any) -> None:
        """Keep the question, any JSON value."""
        super().__init__(question)
        self.question = question


def bare(error: BaseException, cancelled: type[BaseException]) -> BaseException:
    """Return what a group comes down to; anything else is returned as it is.

    KeyboardInterrupt, SystemExit and their like pass bare on both backends; after them comes a
    cancellation, which its scope has to see, and then the first error.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = _leaves(cast("BaseException", error))
    for kinds in ((Exception, cancelled, Asked, CancelledCall), (Exception, Asked, CancelledCall)):
        for leaf in leaves:
            if not isinstance(leaf, kinds):
                return leaf
    return next((leaf for leaf in leaves if not isinstance(leaf, Exception)), leaves[0])


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the single exceptions in a group, however deep; of any other one, itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    members: tuple[BaseException, ...] = cast("Any", error).exceptions
    return [leaf for member in members for leaf in _leaves(member)]
