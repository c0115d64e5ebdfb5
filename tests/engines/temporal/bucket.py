"""A bucket of the tests' own: moto's server, a process that speaks S3 over HTTP on the loopback."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import sys, urllib.request
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
urllib.request.urlopen(urllib.request.Request(f"{url}/values", method="PUT")).read()
print(url, flush=True)
sys.stdin.read()
server.stop()
"""


class Bucket(NamedTuple):
    """Where it is, and what a client needs to use it."""

    url: str
    options: dict[str, Any]


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Return a bucket that is there; no process of it is left."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        endpoint = process.stdout.readline().strip()
        assert endpoint, "moto's server did not start"
        options = {
            "endpoint": endpoint,
            "region": "us-east-1",
            "access_key_id": "test",
            "secret_access_key": "test",
            "client_options": {"allow_http": True},
        }
        yield Bucket("s3://values/runs", options)
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()
