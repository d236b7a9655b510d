"""Work on one untrusted video happens in a child process with limits on CPU time and memory.

A decoder that crashes, hangs or eats memory takes its child along and nothing else. Requests and replies are JSON
lines; the child knows only the functions in `_calls`. Limits count CPU time, not wall time, so that what a video is
found to be does not depend on how busy the machine is; a generous wall-clock guard covers a child that sleeps.
"""

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ..shards.ledger import Reason

WALL_PER_CPU_SECOND = 10
WALL_GRACE_SECONDS = 60


class MediaError(Exception):
    """A video cannot be used: `reason` is the ledger's, `detail` says what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


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
        child.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
        child.stdin.flush()
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
            # Not `-m`: that would make a second copy of this module, whose MediaError nobody else raises.
            program = f"from {__name__} import _serve; _serve({self._cpu_seconds}, {self._memory_mb})"
            command = [sys.executable, "-c", program]
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


def _calls() -> dict[str, Callable[..., Any]]:
    # The parent needs neither FFmpeg nor these modules, and they need MediaError from here.
    from .probe import packet_table, probe
    from .transcode import remux, to_intra

    return {"probe": probe, "packet_table": packet_table, "remux": remux, "to_intra": to_intra}


def _serve(cpu_seconds: int, memory_mb: int) -> None:
    calls = _calls()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        name, arguments = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        budget = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.RLIM_INFINITY))
        try:
            reply = {"value": calls[name](**arguments)}
        except MediaError as error:
            reply = {"media": [error.reason, error.detail]}
        except MemoryError:
            reply = {"media": ["limit", f"needs more than {memory_mb} MB of memory"]}
        except OSError as error:
            reply = {"os": [error.errno, error.strerror or str(error), error.filename]}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()
