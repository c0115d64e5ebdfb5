"""What the engine refuses, and what limits become; no server is needed."""

from __future__ import annotations

import asyncio
import os
import sys

import anyio
import pytest

from dagexec import DagexecError, MissingExtra, tool
from dagexec.limits import Limiter, Rate
from tests.engines.processes import run_python

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("temporalio", reason="the extra temporal is not installed")
from dagexec.engines.temporal import FolderStore, S3Store, TemporalEngine
from tests.engines.tools_for_engines import TOOLS

NOWHERE = "127.0.0.1:1"
pytestmark = pytest.mark.real_time


def test_dagexec_does_not_load_temporal():
    """Neither the package nor its journal, limits and seam import its library."""
    code = (
        "import sys, dagexec, dagexec.lowlevel, dagexec.limits, dagexec.journal, dagexec.engines\n"
        "print('temporalio' in sys.modules)"
    )
    assert run_python(code) == "False\n"


def test_a_missing_extra_is_named():
    """One line says what to install."""
    code = (
        "import sys\nsys.modules['temporalio'] = None\nimport dagexec\ntry:\n"
        "    import dagexec.engines.temporal\n"
        "except dagexec.MissingExtra as error:\n    print(error)\n"
    )
    assert run_python(code) == (
        "dagexec.engines.temporal needs temporalio: pip install 'dagexec[temporal]'\n"
    )


def test_trio_is_refused():
    """Temporal's library is made for asyncio."""
    pytest.importorskip("trio")

    async def main() -> None:
        async with TemporalEngine(TOOLS, address=NOWHERE):
            pass

    with pytest.raises(DagexecError, match="asyncio only"):
        anyio.run(main, backend="trio")


def test_a_server_that_cannot_be_reached():
    """One clear error, soon."""

    async def main() -> None:
        async with TemporalEngine(TOOLS, address=NOWHERE):
            pass

    with pytest.raises(DagexecError, match=r"cannot be reached at 127\.0\.0\.1:1") as caught:
        asyncio.run(main())
    assert "\n" not in str(caught.value)


def test_an_engine_shows_where_it_is():
    """Its name and the address."""
    engine = TemporalEngine(TOOLS, address=NOWHERE, name="shop")
    assert repr(engine) == "<TemporalEngine 'shop' at 127.0.0.1:1>"


def test_it_has_to_be_opened():
    """One line shows how."""
    engine = TemporalEngine(TOOLS, address=NOWHERE)
    for use in (engine.run([]), engine.resume("r"), engine.cancel("r"), engine.report("r")):
        with pytest.raises(DagexecError, match="async with engine"):
            asyncio.run(use)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"name": "No Name"}, "name='No Name'"),
        ({"client": "here"}, "client= takes .* not a str"),
        ({"address": None}, "address=None"),
        ({"address": "localhost"}, "address='localhost'"),
        ({"address": "http://localhost:7233"}, "give a host and a port"),
        ({"namespace": ""}, "namespace=''"),
        ({"namespace": None}, "namespace=None"),
        ({"lease": 0.5}, "lease=0.5"),
        ({"lease": "soon"}, "lease='soon'"),
        ({"beat": 0}, "beat=0"),
        ({"beat": 9}, "at most half of lease"),
        ({"grace": -1}, "grace=-1"),
        ({"inline": True}, "inline=True"),
        ({"queues": {"add": "a b"}}, "the queue 'a b'"),
        ({"queues": {"none": "gpu"}}, "there is no such tool"),
        ({"serves": "gpu"}, "serves='gpu'"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"on_failure": "go"}, "on_failure"),
        ({"in_doubt": "never"}, "in_doubt"),
        ({"tools": [tool(lambda: 1, name="t", uses={"gpu": 1})]}, "uses 1 of 'gpu'"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    """Refused when the engine is made, by name."""
    with pytest.raises(DagexecError, match=text):
        TemporalEngine(**{"tools": TOOLS, "address": NOWHERE, **settings})


def limited(name: str, *limits: Limiter, **options: object) -> object:
    return tool(lambda: name, name=name, limits=limits, effect="read", **options)


@pytest.mark.parametrize(
    ("limits", "options", "text"),
    [
        ([Limiter("a", rates={"requests": 5, "tokens": 9})], {}, "'a' counts 'tokens'"),
        ([Limiter("a", rates={"requests": 600}), Limiter("b", in_flight=2)], {}, "several"),
        ([Limiter("a", rates={"requests": 600})], {"cost": {"requests": 2}}, "a cost"),
        ([Limiter("a", in_flight=2)], {}, "caps the calls in flight"),
        ([Limiter("a", rates={"requests": Rate(5, per=60)})], {}, "less than one call"),
    ],
)
def test_limits_that_a_queue_cannot_carry(limits, options, text):
    """Refused, with the way out."""
    with pytest.raises(DagexecError, match=text) as caught:
        TemporalEngine([limited("t", *limits, **options)], address=NOWHERE)
    assert "peers=" in str(caught.value)


def test_what_limits_become():
    """A queue for each limiter; one that processes share by itself stays with its tool."""
    from dagexec.engines.temporal._process import queues_served
    from dagexec.engines.temporal._queues import queues_of

    one = Limiter("one", rates={"requests": Rate(610, per=60)})
    own = Limiter("own", rates={"requests": 5, "tokens": 100}, peers=4)
    tools = [limited("a", one), limited("b", one), limited("c", own), limited("d")]
    queues, made = queues_of(tools, {"d": "gpu"})
    assert queues["a"] == queues["b"]
    assert (queues["a"].part, queues["a"].per_second) == (":one", 10)
    assert (queues["c"].part, queues["c"].per_second) == ("", None)
    assert queues["d"].part == "gpu"
    assert [made[name].limits for name in "abd"] == [(), (), ()]
    assert made["c"].limits == (own,)
    assert [queue.part for queue in queues_served(queues, ("",))] == ["", ":one"]
    assert [queue.part for queue in queues_served(queues, ("gpu",))] == ["", "gpu"]
    with pytest.raises(DagexecError, match="other limits"):
        queues_of([limited("a", one), limited("b", Limiter("one", rates={"requests": 90}))], {})


def test_a_folder_of_values(tmp_path):
    """Values appear whole, twice is as once, and no key leads out of the folder."""
    store = FolderStore(tmp_path / "made")

    async def main() -> None:
        await store.put("abc1", b"value")
        await store.put("abc1", b"value")
        assert await store.get("abc1") == b"value"
        with pytest.raises(FileNotFoundError):
            await store.get("abc2")
        with pytest.raises(ValueError, match="no key"):
            await store.get("../abc1")

    asyncio.run(main())
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["abc1"]
    assert "made" in repr(store)


@pytest.mark.integration
def test_a_bucket_of_values(values):
    """Of any size, twice is as once, and no key leads out of the prefix."""
    store = S3Store(values.url, **values.options)
    large = os.urandom(6_000_000)  # goes up in parts

    async def main() -> None:
        for _ in range(2):
            await store.put("abc1", b"value")
        assert await store.get("abc1") == b"value"
        await store.put("abc3", large)
        assert await store.get("abc3") == large
        with pytest.raises(FileNotFoundError):
            await store.get("abc2")
        with pytest.raises(ValueError, match="no key"):
            await store.get("../abc1")

    asyncio.run(main())
    assert repr(store) == "S3Store('s3://values/runs')"


@pytest.mark.integration
def test_a_bucket_that_cannot_be(monkeypatch):
    """By name; a missing extra is one line."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    for url, options, text in (
        ("bucket/prefix", {}, "names no bucket"),
        ("s3:///", {}, "names no bucket"),
        ("s3://bucket", {"nonsense": "x"}, "'nonsense' is not valid for store 'S3'.$"),
    ):
        with pytest.raises(DagexecError, match=text):
            S3Store(url, **options)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dagexec\[s3\]'"):
        S3Store("s3://bucket")
