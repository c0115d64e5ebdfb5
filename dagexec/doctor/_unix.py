"""Who is at the other end of a unix socket, asked of the kernel over netlink.

Node and others connect a child's stdio by socket pairs. /proc says that a descriptor is a socket,
but not whose; `sock_diag(7)` gives the peer of each unix socket to every user.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final, final

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_ROOT_MATCH_REQUEST: Final = 0x0301  # NLM_F_REQUEST | NLM_F_DUMP
_SHOW: Final = 0x01 | 0x04 | 0x10  # UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN
_NAME, _PEER, _QUEUE = 0, 2, 4
_ERROR, _DONE = 2, 3
_HEADER, _SHORT_HEADER = 16, 4  # struct nlmsghdr, struct rtattr
LISTENING: Final = 10


@final
@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A unix socket: inode of its peer (0 without), its state, its path, the bytes to be read."""

    peer: int = 0
    state: int = 0
    path: str = ""
    queued: int | None = None


def unix_sockets() -> dict[int, UnixSocket]:
    """Return the unix sockets of this network namespace by inode; raise OSError where refused."""
    found: dict[int, UnixSocket] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as link:
        link.settimeout(1.0)
        body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW, 0, 0)
        link.send(
            struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _ROOT_MATCH_REQUEST, 1, 0) + body
        )
        while _take(link.recv(1 << 18), found):
            pass
    return found


def _take(data: bytes, found: dict[int, UnixSocket]) -> bool:
    """Read one datagram; return whether more will come."""
    while len(data) >= _HEADER:
        length, kind = struct.unpack_from("=IH", data)
        if kind == _DONE or length < _HEADER:
            return False
        if kind == _ERROR:
            number = -struct.unpack_from("=i", data, 16)[0]
            raise OSError(number, "the kernel refused to list unix sockets")
        _, _, state, _, inode = struct.unpack_from("=BBBBI", data, 16)
        found[inode] = _details(state, data[32:length])
        data = data[(length + 3) & ~3 :]
    return True


def _details(state: int, data: bytes) -> UnixSocket:
    peer, path, queued = 0, "", None
    while len(data) >= _SHORT_HEADER:
        length, kind = struct.unpack_from("=HH", data)
        if length < _SHORT_HEADER:
            break
        value = data[4:length]
        if kind == _PEER:
            peer = struct.unpack_from("=I", value)[0]
        elif kind == _QUEUE:
            queued = struct.unpack_from("=I", value)[0]
        elif kind == _NAME:
            path = value.rstrip(b"\0").decode(errors="replace")
        data = data[(length + 3) & ~3 :]
    return UnixSocket(peer, state, path, queued)
