"""Ends the children of this process when it dies, however it dies (POSIX).

PR_SET_PDEATHSIG would have to be set between fork and exec, where Python must not run code beside
threads; it reaches the child only, not what the child has started, and it fires when the *thread*
that forked ends. So a shell waits at the end of a pipe that closes with this process, and then
signals what is still on its list. It runs only while there are children, and costs about a
millisecond.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
from typing import Final, final

from dagexec._concurrency import forks

_log: Final = logging.getLogger("dagexec")

_SCRIPT: Final = r"""
trap '' HUP INT TERM
list=
while read -r op pid tag; do
  if [ "$op" = + ]; then
    list="$list $pid:$tag"
  else
    rest=
    for each in $list; do
      case $each in "$pid":*) ;; *) rest="$rest $each" ;; esac
    done
    list=$rest
  fi
done
[ -n "$list" ] || exit 0
for signal in TERM KILL KILL KILL KILL KILL; do
  for each in $list; do
    kill -s $signal -- "-${each%%:*}"
    for file in $(grep -lF "${each#*:}" /proc/[0-9]*/environ); do
      file=${file#/proc/}
      kill -s $signal "${file%/environ}"
    done
  done
  if [ $signal = TERM ]; then sleep 1; else sleep 0.05; fi
done
"""


@final
class Watchdog:
    """The list of children, and the shell that is told of it. Safe to use from any thread."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._children: dict[int, str] = {}
        self._shell: subprocess.Popen[bytes] | None = None
        forks.forgets(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child: the list is the parent's, and the pipe must end with it."""
        shell, self._shell = self._shell, None
        self._lock = threading.Lock()
        self._children = {}
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            shell.returncode = 0  # not this process's child, so nothing to wait for

    def add(self, pid: int, tag: str) -> None:
        """Let a child end with this process."""
        if os.name != "posix":
            return
        with self._lock:
            self._children[pid] = tag
            if self._shell is not None and self._tell("+", pid, tag):
                return
            self._start()

    def remove(self, pid: int) -> None:
        """Forget a child that has ended."""
        with self._lock:
            if self._children.pop(pid, None) is None or self._shell is None:
                return
            self._tell("-", pid, "")
            if not self._children:
                self._end()

    def _start(self) -> None:
        try:
            self._shell = subprocess.Popen(  # noqa: S603 - a constant
                ["/bin/sh", "-c", _SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            _log.warning(
                "no shell to watch over child processes (%s): they may outlive this one if it"
                " is killed",
                error,
            )
            return
        for pid, tag in self._children.items():
            self._tell("+", pid, tag)

    def _tell(self, operation: str, pid: int, tag: str) -> bool:
        pipe = None if self._shell is None else self._shell.stdin
        if pipe is None:
            return False
        try:
            pipe.write(f"{operation} {pid} {tag}\n".encode())
        except (OSError, ValueError):  # somebody has killed it
            self._end()
            return False
        return True

    def _end(self) -> None:
        shell, self._shell = self._shell, None
        if shell is None:
            return
        with contextlib.suppress(OSError):
            if shell.stdin is not None:
                shell.stdin.close()
            shell.kill()
        shell.wait()


watchdog: Final = Watchdog()
