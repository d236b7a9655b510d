"""What a person sees in the terminal: progress with rate and time left, summary tables, one-line errors."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

PLAIN_EVERY_SECONDS = 10.0


class Progress:
    """Counts what is done; a bar on a terminal, a plain line every ten seconds elsewhere."""

    def __init__(self, total: int | None, what: str, unit: str) -> None:
        self._total, self._what, self._unit = total, what, unit
        self._done, self._bytes, self._start = 0, 0, time.monotonic()
        self._last_line = self._start
        self._figures: dict[str, object] = {}
        self._printed = -1
        self._bar = tqdm(total=total, desc=what, unit=unit, dynamic_ncols=True) if sys.stderr.isatty() else None

    def add_bytes(self, count: int) -> None:
        """Count bytes that went by; they are shown from the next `update` on."""
        self._bytes += count

    def update(self, n: int = 1, **figures: object) -> None:
        """Count `n` more; `figures` are shown beside the count."""
        self._done += n
        if self._bytes:
            seconds = max(time.monotonic() - self._start, 1e-9)
            figures = {"bytes": f"{human_bytes(self._bytes)} at {human_bytes(self._bytes / seconds)}/s"} | figures
        self._figures |= figures
        if self._bar is not None:
            if figures:
                self._bar.set_postfix(figures, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._last_line >= PLAIN_EVERY_SECONDS:
            self._print()

    def close(self, *, finished: bool = True) -> None:
        """End the bar, or print the last plain line."""
        if self._bar is not None:
            self._bar.close()
        elif finished and self._printed != self._done:
            self._print()

    def _print(self) -> None:
        self._last_line, self._printed = time.monotonic(), self._done
        seconds = max(self._last_line - self._start, 1e-9)
        rate = self._done / seconds
        line = f"{self._what}: {self._done}"
        if self._total is not None:
            line += f"/{self._total}"
        line += f" {self._unit}, {rate:.1f} {self._unit}/s"
        if self._total is not None and 0 < self._done < self._total:
            line += f", {(self._total - self._done) / rate:.0f} s left"
        line += "".join(f", {name} {value}" for name, value in self._figures.items())
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(total: int | None, what: str, unit: str = "it") -> Iterator[Progress]:
    """Show progress towards `total` (None when unknown) while the block runs; an error ends it without a last line."""
    shown = Progress(total, what, unit)
    try:
        yield shown
    except BaseException:
        shown.close(finished=False)
        raise
    shown.close()


def table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a two-column summary on stdout."""
    width = max((len(name) for name, _ in rows), default=0)
    print(f"\n{title}")
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Text that came from data, for a terminal: control codes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def human_bytes(count: float) -> str:
    """12.3 MB: decimal units, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"
