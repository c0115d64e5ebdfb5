"""A bucket as the store of large values."""

from __future__ import annotations

from typing import Any, final

from dagexec import DagexecError, MissingExtra


@final
class S3Store:
    """Large values as objects in a bucket of S3, or of a service that speaks as it does.

    Args:
        url: The bucket and what keys begin with: "s3://bucket/prefix".
        options: Those of obstore's `S3Store`, such as `region=`, `endpoint=`, `access_key_id=`,
            `secret_access_key=`, `credential_provider=` and `client_options={"allow_http": True}`.
            What is not given comes from the environment (`AWS_REGION` and so on) or from the
            machine's role.

    An object is called by the SHA-256 of what is in it, appears whole or not at all, and is never
    deleted: give the prefix a rule that expires what is older than your longest run. Large ones go
    up in parts. Needs the extra `s3`. Both methods raise FileNotFoundError and obstore's errors.

    Raises DagexecError for a URL or options that cannot be.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """Make the client; nothing is sent."""
        try:
            import obstore
            from obstore.store import S3Store as Bucket
        except ImportError as missing:
            msg = "dagexec.engines.temporal.S3Store needs obstore: pip install 'dagexec[s3]'"
            raise MissingExtra(msg) from missing
        if not url.startswith("s3://") or not url.removeprefix("s3://").strip("/"):
            msg = f"{url!r} names no bucket: give a URL such as 's3://bucket/prefix'"
            raise DagexecError(msg)
        self._url = url
        self._obstore: Any = obstore
        try:
            self._bucket: Any = Bucket.from_url(url, **options)
        except Exception as error:
            why = str(error).partition("\n")[0]
            msg = f"the options of the S3Store {url!r} cannot be used: {why}"
            raise DagexecError(msg) from error

    def __repr__(self) -> str:
        """Return its URL; options may hold keys."""
        return f"S3Store({self._url!r})"

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value."""
        await self._obstore.put_async(self._bucket, _checked(key), value)

    async def get(self, key: str) -> bytes:
        """Return a value that was kept."""
        found = await self._obstore.get_async(self._bucket, _checked(key))
        return bytes(await found.bytes_async())


def _checked(key: str) -> str:
    if not key.isalnum():
        msg = f"{key!r} is no key of a value"
        raise ValueError(msg)
    return key
