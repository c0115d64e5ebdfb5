"""A codec that hides all that travels."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

# Its own inverse.
_HIDE = bytes.maketrans(bytes(range(256)), bytes(range(255, -1, -1)))


class Hiding(PayloadCodec):
    """No byte stands in the history as it was."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"h"}, data=each.SerializeToString().translate(_HIDE))
            for each in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(each.data.translate(_HIDE)) for each in payloads]
