"""Work on one untrusted video happens in a child process with limits on CPU time and memory.

A decoder that crashes, hangs or eats memory takes its child along and nothing else. Requests and replies are JSON
lines; the child knows only the functions that `sandbox_child` lists. Limits count CPU time, not wall time, so that what
a video is found to be does not depend on how busy the machine is; a generous wall-clock guard covers a child that
sleeps.
"""

import json
import select
import signal
import subprocess
import sys
from typing import Any

from .errors import MediaError

WALL_PER_CPU_SECOND = 10
WALL_GRACE_SECONDS = 60


class Sandbox:
    """A child process that probes and transcodes; it starts on first use and again after it died."""

    def __init__(self, cpu_seconds: int, memory_mb: int) -> None:
        self._cpu_seconds, self._memory_mb = cpu_seconds, memory_mb
        self._child: subprocess.Popen[bytes] | None = None

    def call(self, name: str, **arguments: Any) -> Any:
        """Run one of the child's functions.

        Raises:
            MediaError: the function found the video unusable, or the child died of it.
            OSError: the disk refused what the function wrote.
        """
        child = self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise self._death(hung=False) from None
        wall_seconds = self._cpu_seconds * WALL_PER_CPU_SECOND + WALL_GRACE_SECONDS
        ready, _, _ = select.select([child.stdout], [], [], wall_seconds)
        line = child.stdout.readline() if ready else b""
        if not line.endswith(b"\n"):
            raise self._death(hung=not ready)
        reply = json.loads(line)
        if "media" in reply:
            raise MediaError(*reply["media"])
        if "os" in reply:
            raise OSError(*reply["os"])
        return reply["value"]

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            command = [
                sys.executable,
                "-m",
                f"{__package__}.sandbox_child",
                str(self._cpu_seconds),
                str(self._memory_mb),
            ]
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        return self._child

    def _death(self, hung: bool) -> MediaError:
        assert self._child is not None
        if hung:
            self._child.kill()
        code = self._child.wait()
        self.close()
        if hung or code == -signal.SIGXCPU:
            return MediaError("limit", f"took more than {self._cpu_seconds} s of CPU time")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return MediaError("crashed", f"the decoder ended its process: {name}")
