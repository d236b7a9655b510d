"""The page of `bank stats`: it stands alone, in light and dark, and whatever came from data is escaped."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ....shards.files import write_atomic
from .likeness import Likeness
from .plots import SQUARE, Bars, Scatter

Rows = Sequence[tuple[str, str]]


def write_page(
    out_html: Path,
    *,
    title: str,
    figures: Rows,
    bars: Sequence[Bars],
    scatter: Scatter | None,
    likeness: Likeness | None,
) -> None:
    """Write the page.

    Args:
        out_html: the file.
        title: its heading.
        figures: names and values of the counts.
        bars: the plots of bars.
        scatter: that of word vectors, if there are any.
        likeness: what it was made of: the nearest actions are shown below it.

    Raises:
        StorageError: the disk refused.
    """
    template = Path(__file__).with_name("stats.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
    text = page.render(title=title, figures=figures, bars=bars, scatter=scatter, likeness=likeness, square=SQUARE)
    write_atomic(out_html, text.encode("utf-8", "backslashreplace"))
