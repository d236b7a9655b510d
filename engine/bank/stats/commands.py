"""`reelmill bank stats`."""

import numpy as np

from .... import console
from ....shards.files import make_folder, write_atomic
from .config import StatsConfig
from .likeness import Likeness, compare
from .page import write_page
from .plots import bars_of, bars_png, scatter_of, scatter_png
from .stats import Stats, count_bank

SHOWN = 5
FEW_DESCRIPTIONS, FEW_SENTENCES = 1_000, 3_000
"""ActionHub's own bounds: nearly half of its actions are below."""


def bank_stats(config: StatsConfig) -> int:
    """`reelmill bank stats BANK`."""
    stats = count_bank(config.bank)
    figures = _figures(stats)
    likeness = None if config.vectors is None else compare(config.bank, config.vectors, config.actions)
    rows = figures + _write(config, stats, figures, likeness)
    console.table(f"bank {config.bank}", [(console.printable(name), console.printable(value)) for name, value in rows])
    return 0


def _figures(stats: Stats) -> list[tuple[str, str]]:
    counts, sentences = stats.descriptions_A, int(stats.sentences_A.sum())
    total, actions = int(counts.sum()), len(counts)
    rows = [("actions", f"{actions:,}"), ("descriptions", f"{total:,}")]
    rows += [("sentences", f"{sentences:,} ({sentences / max(total, 1):.2f} per description)")]
    rows += [("words", f"{stats.words:,} ({stats.words / max(total, 1):.1f} per description)")]
    if actions:
        spread = ", ".join(f"{each:,.0f}" for each in np.quantile(counts, [0, 0.25, 0.5, 0.75, 1]))
        few = [(counts < FEW_DESCRIPTIONS).mean(), (stats.sentences_A < FEW_SENTENCES).mean()]
        rows += [("descriptions per action", f"{spread} (least, quarter, half, three quarters, most)")]
        rows += [(f"below {FEW_DESCRIPTIONS:,} descriptions", f"{few[0]:.1%} of actions")]
        rows += [(f"below {FEW_SENTENCES:,} sentences", f"{few[1]:.1%} of actions")]
    if stats.relevance is not None:
        spread = ", ".join(f"{each:.3f}" for each in stats.relevance)
        rows += [("relevance", f"{spread} (least, quarter, half, three quarters, most) of {stats.scored:,}")]
    for source, count in sorted(stats.sources.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
        rows.append((f"from {source}", f"{count:,}"))
    if len(stats.sources) > SHOWN:
        rows.append(("from other sources", f"{len(stats.sources) - SHOWN:,} of them"))
    aside = ", ".join(f"{count:,} {reason}" for reason, count in sorted(stats.reasons.items()))
    rows.append(("records set aside", aside or "none"))
    rows += [(name, console.human_bytes(size)) for name, size in sorted(stats.tables.items())]
    return rows


def _write(
    config: StatsConfig, stats: Stats, figures: list[tuple[str, str]], likeness: Likeness | None
) -> list[tuple[str, str]]:
    bars = bars_of(stats)
    scatter = None if likeness is None else scatter_of(likeness)
    rows = []
    if config.html is not None:
        make_folder(config.html.parent)
        title = f"Bank {config.bank.name}"
        write_page(config.html, title=title, figures=figures, bars=bars, scatter=scatter, likeness=likeness)
        rows.append(("page", str(config.html)))
    if config.png is not None:
        make_folder(config.png)
        for chart in bars:
            write_atomic(config.png / f"{chart.name}.png", bars_png(chart))
        if scatter is not None:
            write_atomic(config.png / f"{scatter.name}.png", scatter_png(scatter))
        rows.append(("plots", str(config.png)))
    return rows
