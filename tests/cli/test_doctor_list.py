"""`dagexec doctor` without a process id: who tells of its calls, and how one opts in."""

from __future__ import annotations

import json
import os
import socket

import pytest

from dagexec._runtime import listener
from dagexec.cli._main import main

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="Linux")  # noqa: PTH112


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the one place where sockets are looked for."""
    monkeypatch.setattr(listener, "folders", lambda _user: (tmp_path, tmp_path / "missing"))
    return tmp_path


def test_nobody_listens(folder, capsys):
    """It says how to opt in."""
    (folder / f"{listener.PREFIX}x.sock").touch()
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "DAGEXEC_DOCTOR=1" in err
    assert "dagexec.doctor.listen()" in err


def test_who_listens_is_named(folder, capsys):
    """With the id and the name; the socket of a process that was killed is left out."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as gone:
        server.bind(str(folder / f"{listener.PREFIX}{os.getpid()}.sock"))
        server.listen(5)
        gone.bind(str(folder / f"{listener.PREFIX}1.sock"))
        gone.close()
        assert listener.listening() == (os.getpid(),)
        assert main(["doctor"]) == 0
        out, err = capsys.readouterr()
        assert str(os.getpid()) in out
        assert "dagexec doctor PID" in err
        assert main(["doctor", "--json"]) == 0
        assert [each["pid"] for each in json.loads(capsys.readouterr().out)] == [os.getpid()]
