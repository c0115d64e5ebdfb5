"""A real kernel, as JupyterLab starts one, with the messages that a page would get from it."""

from __future__ import annotations

import os
import queue
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 100.0  # seconds that a cell may take on a loaded machine


@dataclass
class Cell:
    """What a cell did: its text, its pictures as they came, its error."""

    text: str = ""
    shown: list = field(default_factory=list)
    updates: list = field(default_factory=list)
    error: str | None = None
    interrupted_at: float | None = None
    ended_at: float = 0.0


class Kernel:
    """A kernel and its client."""

    def __init__(self, tmp_path):
        """Start it, over sockets in a folder instead of ports."""
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(
            kernel_name="python3", transport="ipc", ip=str(tmp_path / "kernel")
        )
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": str(tmp_path),
            "JUPYTER_RUNTIME_DIR": str(tmp_path),
        }
        environment.pop("DAGEXEC_DISPLAY", None)
        environment.pop("DAGEXEC_CONCURRENCY", None)
        self.manager.start_kernel(env=environment, cwd=str(tmp_path))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code, *, interrupt_when=None):
        """Run a cell to its end; interrupt it once the file `interrupt_when` is there."""
        cell = Cell()
        request = self.client.execute(code)
        end = time.time() + PATIENCE
        while time.time() < end:
            if interrupt_when is not None and interrupt_when.exists():
                interrupt_when = None
                # As the stop button does: a signal, and nothing else that could wake the loop.
                time.sleep(0.3)
                cell.interrupted_at = time.time()
                self.manager.interrupt_kernel()
            try:
                message = self.client.get_iopub_msg(timeout=0.02)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") == request and self._take(cell, message):
                cell.ended_at = time.time()
                return cell
        raise TimeoutError(code)

    def _take(self, cell, message):
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                cell.text += content["text"]
            case "error":
                cell.error = content["ename"]
            case "display_data" | "execute_result":
                cell.shown.append(content)
            case "update_display_data":
                # When it was sent: on a loaded machine many may arrive at once.
                cell.updates.append((message["header"]["date"].timestamp(), content))
            case "status":
                return content["execution_state"] == "idle"
        return False

    def close(self):
        """End it."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Return a kernel that the tests of a module share."""
    pytest.importorskip("ipykernel")
    pytest.importorskip("jupyter_client")
    kernel = Kernel(tmp_path_factory.mktemp("k"))
    yield kernel
    kernel.close()
