"""Statistics are counted right, their plots show them, and the page holds no foreign markup and asks no network."""

import io
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.selection.config import SelectConfig
from reelmill.engine.bank.selection.select import select
from reelmill.engine.bank.stats import stats as stats_module
from reelmill.engine.bank.stats.commands import bank_stats
from reelmill.engine.bank.stats.config import StatsConfig
from reelmill.engine.bank.stats.likeness import compare
from reelmill.engine.bank.stats.page import write_page
from reelmill.engine.bank.stats.plots import COLORS, Bars, bars_of, bars_png, scatter_of, scatter_png
from reelmill.engine.bank.stats.stats import count_bank
from reelmill.shards.errors import DamageError, UsageError

EVIL = "<script>alert(1)</script>"
COUNTS = {"jump rope": 120, "run": 35, "swim": 12, "fly": 1}
VECTORS: dict[str, list[float]] = {
    "jump": [1, 0, 0, 0.1],
    "rope": [0.9, 0.1, 0, 0],
    "run": [0, 1, 0, 0],
    "swim": [0, 0, 1, 0],
    "fly": [0, 0.8, 0.3, 0],
}
VECTORS |= {"dog": [0.5, 0.5, 0, 0.2], "water": [0.1, 0, 0.9, 0], "grass": [0.2, 0.6, 0.1, 0.3]}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("world")
    with (folder / "records.jsonl").open("w") as file:
        for action, count in COUNTS.items():
            for number in range(count):
                near = {"jump rope": "dog rope", "run": "run grass", "swim": "water", "fly": "grass run"}[action]
                row = {"action": action, "text": f"{near} {number}. And then?", "source": EVIL if number % 2 else "web"}
                file.write(json.dumps(row) + "\n")
    (folder / "labels.txt").write_text("\n".join([*COUNTS, "wait"]))
    build_bank(
        BankBuildConfig(
            records=folder / "records.jsonl", out=folder / "bank", labels=(folder / "labels.txt",), dedup="exact"
        )
    )
    (folder / "vectors.txt").write_text("".join(f"{w} {' '.join(map(str, v))}\n" for w, v in VECTORS.items()))
    return folder


@pytest.mark.parametrize("at_once", [7, 65_536])
def test_counts(world, monkeypatch, at_once):
    monkeypatch.setattr(stats_module, "ROWS_AT_ONCE", at_once)
    stats = count_bank(world / "bank")
    assert dict(zip(stats.names, stats.descriptions_A.tolist(), strict=True)) == {
        "jump rope": 120,
        "run": 35,
        "swim": 12,
        "fly": 1,
        "wait": 0,
    }
    assert stats.sentences_A.tolist() == (2 * stats.descriptions_A).tolist()
    assert stats.words == sum(count * (4 if action == "swim" else 5) for action, count in COUNTS.items())
    assert stats.sources == Counter({EVIL: 83, "web": 85})
    assert (stats.relevance, stats.scored) == (None, 0)
    assert set(stats.tables) == {"actions.parquet", "ledger.parquet", "merges.csv"}
    assert stats.ranked(True, 2) == [("jump rope", 120), ("run", 35)]
    assert stats.ranked(False, 2) == [("wait", 0), ("fly", 1)]


def test_too_many_sources_are_put_together(world, monkeypatch):
    monkeypatch.setattr(stats_module, "MAX_SOURCES", 1)
    assert sorted(count_bank(world / "bank").sources.values()) == [83, 85]


def test_relevance_is_summed_up(world, tmp_path):
    select(SelectConfig(bank=world / "bank", out=tmp_path / "out", vectors=world / "vectors.txt", top_k=10))
    stats = count_bank(tmp_path / "out")
    assert stats.relevance is not None
    assert -1 <= stats.relevance[0] <= stats.relevance[2] <= stats.relevance[4] <= 1
    assert stats.scored == int(stats.descriptions_A.sum()) == 31


def test_figure_4_and_5(world):
    charts = {chart.name: chart for chart in bars_of(count_bank(world / "bank"))}
    assert charts["descriptions-per-action"].rows == [
        ("0", 1),
        ("1 to 9", 1),
        ("10 to 29", 1),
        ("30 to 99", 1),
        ("100 to 299", 1),
    ]
    assert charts["sentences-per-action"].rows == [
        ("0", 1),
        ("1 to 9", 1),
        ("10 to 29", 1),
        ("30 to 99", 1),
        ("100 to 299", 1),
    ]
    assert [name for name, _ in charts["most-described"].rows] == ["jump rope", "run", "swim", "fly", "wait"]
    assert [name for name, _ in charts["least-described"].rows] == ["wait", "fly", "swim", "run", "jump rope"]


def blue(picture: Image.Image, row: int) -> int:
    """Pixels of a bar's colour in the middle of a row of the plot."""
    line = np.asarray(picture)[2 * (40 + 22 * row + 11)]
    return int((line == [int(COLORS[0][n : n + 2], 16) for n in (1, 3, 5)]).all(1).sum())


def test_bars_are_as_long_as_their_values():
    picture = Image.open(io.BytesIO(bars_png(Bars("x", "title", [("a", 400), ("b" * 90, 100), ("c", 0), ("跳", 1)]))))
    assert picture.size == (1440, 2 * (40 + 4 * 22 + 16))
    lengths = [blue(picture, row) for row in range(4)]
    assert lengths[0] == 2 * (720 - 240 - 80 - 32)
    assert lengths[1] == pytest.approx(lengths[0] / 4, abs=2)
    assert lengths[2:] == [0, 2]


def test_figure_6(world):
    likeness = compare(world / "bank", world / "vectors.txt", ["jump rope", "run", "fly"])
    assert [cloud.name for cloud in likeness.clouds] == ["jump rope", "run", "fly"]
    jump, run, fly = likeness.clouds
    assert (len(jump.texts_N2), len(run.texts_N2), len(fly.texts_N2)) == (100, 35, 1)
    np.testing.assert_allclose(run.center_2, run.texts_N2.mean(0), atol=1e-9)
    assert run.near_by_name[0] == "fly"
    assert run.near_by_texts[0] == "fly"
    assert "wait" not in run.near_by_name  # nothing is known of its name
    assert 0 < likeness.share <= 1 + 1e-9
    again = compare(world / "bank", world / "vectors.txt", ["jump rope", "run", "fly"])
    assert again.clouds[0].texts_N2.tobytes() == jump.texts_N2.tobytes()
    scatter = scatter_of(likeness)
    assert all(0 <= each <= 480 for group in scatter.groups for point in group.points for each in point)
    assert Image.open(io.BytesIO(scatter_png(scatter))).size[0] == 2 * (480 + 32)
    by_size = compare(world / "bank", world / "vectors.txt", [])
    assert [cloud.name for cloud in by_size.clouds][:2] == ["jump rope", "run"]


def test_what_cannot_be_compared_is_told(world, tmp_path):
    with pytest.raises(UsageError, match=r"label 'ran' must be an action of the bank .*; the nearest is 'run'"):
        compare(world / "bank", world / "vectors.txt", ["ran"])
    with pytest.raises(UsageError, match="action 'wait' must have a description with a known word, but has none"):
        compare(world / "bank", world / "vectors.txt", ["wait"])
    (tmp_path / "v").write_text("zebra 1 2\n")
    with pytest.raises(UsageError, match="must have at least one word of the bank, got none"):
        compare(world / "bank", tmp_path / "v", [])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))


def test_the_page_stands_alone_and_escapes(world, tmp_path, capsys):
    config = StatsConfig(
        bank=world / "bank",
        html=tmp_path / "pages/bank.html",
        png=tmp_path / "plots",
        vectors=world / "vectors.txt",
        actions=("jump rope", "swim"),
    )
    assert bank_stats(config) == 0
    said = capsys.readouterr().out
    assert re.search(r"descriptions per action +0, 1, 12, 35, 120 \(least", said)
    assert re.search(r"below 1,000 descriptions +100.0% of actions", said)
    page = (tmp_path / "pages/bank.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not [tag for tag, _ in tags.seen if tag in ("script", "link", "img", "iframe", "object")]
    assert not [key for _, attributes in tags.seen for key in attributes if key in ("src", "href") or key[:2] == "on"]
    assert not re.search(r"url\(|@import|https?:", page)
    assert "&lt;script&gt;alert(1)" in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<circle") == 100 + 12 + 2
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {
        "descriptions-per-action.png",
        "sentences-per-action.png",
        "most-described.png",
        "least-described.png",
        "word-vectors.png",
    }
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as picture:
            picture.verify()


def test_names_out_of_a_forged_bank_are_escaped(world, tmp_path):
    likeness = compare(world / "bank", world / "vectors.txt", ["run"])
    forged = replace(likeness, clouds=[replace(likeness.clouds[0], name=EVIL, near_by_name=[EVIL])])
    bars = [Bars("x", EVIL, [(EVIL, 1)])]
    scatter = scatter_of(forged)
    write_page(tmp_path / "p.html", title=EVIL, figures=[(EVIL, EVIL)], bars=bars, scatter=scatter, likeness=forged)
    page = (tmp_path / "p.html").read_text()
    assert page.count("&lt;script&gt;alert(1)") >= 9
    assert "<script" not in page


def test_counts_alone_write_nothing(world, capsys):
    before = sorted(path.name for path in world.rglob("*"))
    assert bank_stats(StatsConfig(bank=world / "bank")) == 0
    assert re.search(r"from web +85\n", capsys.readouterr().out)
    assert sorted(path.name for path in world.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": Path("v")}, "vectors must be given with --html or --png"),
        ({"html": Path("h"), "actions": ("a",)}, r"actions must be given with --vectors, got \('a',\)"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        StatsConfig(bank=Path("b"), **options)


def test_no_bank_and_a_damaged_one_are_told(world, tmp_path):
    import shutil

    with pytest.raises(UsageError, match=r"bank must be a folder with bank\.json"):
        count_bank(tmp_path)
    shutil.copytree(world / "bank", tmp_path / "bank")
    table = tmp_path / "bank/descriptions/000000.parquet"
    data = bytearray(table.read_bytes())
    data[20:400] = bytes(380)
    table.write_bytes(data)
    with pytest.raises(DamageError, match=r"000000.parquet does not read"):
        count_bank(tmp_path / "bank")
