"""Draws are pinned, fair and cost what they draw; the files that they come from are not held."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from reelmill.shards.bank.draw import draw_names, draw_order, draw_texts
from reelmill.shards.bank.files import TEXTS
from reelmill.shards.bank.rows import FileTexts, TextFiles
from reelmill.shards.bank.texts import SynonymTree, VerbObject
from reelmill.shards.errors import DamageError


class Noted(Sequence[str]):
    """Texts that note which of them were read."""

    def __init__(self, count: int) -> None:
        self.size, self.read = count, list[int]()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index):
        self.read.append(index)
        return f"text {index}"


def test_the_order_is_pinned():
    assert draw_order(10, 10, "draw", 0, 7) == [1, 3, 7, 2, 5, 0, 4, 9, 6, 8]
    assert draw_order(3_600_000, 5, "draw", 1, 7) == [677824, 1001774, 1170494, 3412825, 1062198]
    assert draw_order(5, 5) == [4, 2, 3, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 100, 470_000, 10**15])
def test_a_longer_draw_begins_with_the_shorter_one_and_repeats_nothing(count):
    order = draw_order(count, 300, "draw", 3)
    assert len(order) == len(set(order)) == min(300, count)
    assert all(0 <= place < count for place in order)
    for k in (0, 1, 2, 17):
        assert draw_order(count, k, "draw", 3) == order[:k]
    assert draw_order(count, -1, "draw", 3) == draw_order(0, 5, "draw", 3) == []


def test_every_order_is_as_likely():
    """24 orders of 4; 6,000 draws: chi-square with 23 degrees of freedom stays below its 0.999 quantile."""
    orders = Counter(tuple(draw_order(4, 4, "fair", seed)) for seed in range(6000))
    assert len(orders) == 24
    assert sum((seen - 250) ** 2 / 250 for seen in orders.values()) < 49.7


def test_only_what_is_drawn_is_read():
    texts = Noted(10**12)
    drawn = draw_texts(texts, 100, seed=1, action_id=5)
    assert len(texts.read) == 100
    assert drawn == [f"text {place}" for place in draw_order(10**12, 100, "draw", 1, 5)]
    assert draw_texts(Noted(10**12), 3, seed=1, action_id=6) != drawn[:3]
    assert sorted(draw_texts(Noted(3), 9, seed=0, action_id=1)) == ["text 0", "text 1", "text 2"]


def test_a_class_draws_a_name_of_its_concept():
    trees = {"pick up": SynonymTree("pick up", ("pick up", "lift", "raise"), {})}
    labels = {1: VerbObject("pick up", "leg", "{verb} {object}"), 2: VerbObject("hop", "", "{verb}")}
    drawn = [draw_names([1, 2], labels, trees, seed=0, step=step) for step in range(600)]
    seen = Counter(name for name, _ in drawn)
    assert set(seen) == {"pick up leg", "lift leg", "raise leg"}
    assert min(seen.values()) > 150
    assert {name for _, name in drawn} == {"hop"}
    assert [draw_names([1], labels, trees, seed=0, step=step) for step in range(600)] == [[name] for name, _ in drawn]
    assert [draw_names([1], labels, trees, seed=1, step=step)[0] for step in range(600)] != [name for name, _ in drawn]


def write_texts(path: Path, texts: list[str], batch: int) -> Path:
    with pa.ipc.new_file(str(path), TEXTS) as writer:
        for first in range(0, len(texts), batch):
            writer.write_batch(pa.record_batch([pa.array(texts[first : first + batch])], schema=TEXTS))
    return path


def resident_kb() -> int:
    """What this process holds of files now."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssFile:\s+(\d+)", status)[1])  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/self/status tells what is resident")
def test_reading_everywhere_does_not_hold_the_file(tmp_path):
    texts = [f"{number:07d}" * 100 for number in range(100_000)]
    path = write_texts(tmp_path / "texts.arrow", texts, 1000)
    before = resident_kb()
    files = TextFiles()
    assert files.open(path).add(TEXTS, "a bank", path.name) == 100_000
    drawn = FileTexts(files, 0, 100_000)
    for place in draw_order(100_000, 5000, "rss"):
        assert drawn[place] == texts[place]
    assert path.stat().st_size > 70_000_000
    assert resident_kb() - before < 35_000


def test_several_files_are_one_row_of_texts(tmp_path):
    files, want = TextFiles(), list[str]()
    for number, batch in enumerate((3, 1, 100)):
        texts = [f"{number} {place} ü" for place in range(7)]
        path = write_texts(tmp_path / f"{number}.arrow", texts, batch)
        assert files.open(path).add(TEXTS, "a bank", path.name) == 7
        want += texts
    assert [files.text(row) for row in range(21)] == want
    some = FileTexts(files, 5, 10)
    assert (list(some), some[-1], some[2:4], len(some)) == (want[5:15], want[14], want[7:9], 10)
    with pytest.raises(IndexError, match="text must be one of 10, got 10"):
        some[10]


def test_what_does_not_read_is_told(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(DamageError, match="empty does not read"):
        TextFiles().open(tmp_path / "empty")
    with pytest.raises(DamageError, match="none does not read"):
        TextFiles().open(tmp_path / "none")
    path = write_texts(tmp_path / "nulls.arrow", ["a", None], 2)  # type: ignore[list-item]
    with pytest.raises(
        DamageError, match=r"a bank: nulls\.arrow must have whole batches that are not compressed, without"
    ):
        TextFiles().open(path).add(TEXTS, "a bank", path.name)
    with pa.ipc.new_file(str(path), TEXTS, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch([pa.array(["a" * 1000] * 10)], schema=TEXTS))
    with pytest.raises(DamageError, match="that are not compressed"):
        TextFiles().open(path).add(TEXTS, "a bank", path.name)


def test_a_file_that_is_cut_later_is_told_and_one_that_is_removed_still_reads(tmp_path):
    path = write_texts(tmp_path / "texts.arrow", ["a" * 5000, "b" * 5000], 2)
    files = TextFiles()
    files.open(path).add(TEXTS, "a bank", path.name)
    path.rename(tmp_path / "elsewhere")
    assert files.text(1) == "b" * 5000
    os.truncate(tmp_path / "elsewhere", 6000)
    with pytest.raises(DamageError, match="text 1 of a bank must have 5000 bytes, but its file ends after"):
        files.text(1)
    os.truncate(tmp_path / "elsewhere", 10)
    with pytest.raises(DamageError, match="text 0 of a bank does not read"):
        files.text(0)
