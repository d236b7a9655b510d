"""`reelmill bank select`."""

import time

from .... import console
from .config import SelectConfig
from .select import Selected, select

SHOWN = 5


def bank_select(config: SelectConfig) -> int:
    """`reelmill bank select BANK OUT`."""
    start = time.monotonic()
    done = select(config)
    rows = [("actions", str(done.actions)), ("descriptions", f"{done.descriptions} of {done.of}")]
    rows += _told(done)
    rows += [("bank", str(config.out))]
    console.table(f"at most {config.top_k} selected per action in {time.monotonic() - start:.1f} s", rows)
    if done.nameless:
        shown = ", ".join(done.nameless[:SHOWN]) + (" …" if len(done.nameless) > SHOWN else "")
        text = f"  {len(done.nameless)} actions have no relevance at all, and keep their first descriptions: {shown}"
        print(console.printable(text))
    return 0


def _told(done: Selected) -> list[tuple[str, str]]:
    method, rows = done.method, []
    if "format" in method:
        known = method["met_known"] / max(method["met"], 1)
        rows.append(("vectors", f"{method['entries']} words of {method['dimensions']} dimensions, {method['format']}"))
        rows.append(("words known", f"{method['words_known']} of {method['words']} ({known:.1%} of all occurrences)"))
    else:
        rows.append(("text tower", f"{method['dimensions']} dimensions; {done.cut} texts cut to what it reads"))
    if done.unscored:
        rows.append(("without relevance", f"{done.unscored} descriptions: no known word, in them or in the name"))
    return rows
