"""The page stands alone, escapes what came from data, and shows every figure beside its chance."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from reelmill.engine import Batch, ClipLoader
from reelmill.shards.ledger import NAME, LedgerRow, ledger_writer
from reelmill.shards.manifest import Generation, Manifest, ShardEntry, write_manifest
from reelmill.train.chart import draw, nice_ticks
from reelmill.train.config import TrainConfig
from reelmill.train.config.file import dump_config
from reelmill.train.contact_sheet import contact_sheet
from reelmill.train.report import Stage, write_report

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags, and every address that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "xlink:href")]


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shard = ShardEntry("000000", "shards/000000.tar", 12, 34_500, "0", "0", "0")
    write_manifest(folder, Manifest([EVIL], [Generation({}, "0", [shard])], "0", {}))
    rows = [LedgerRow(f"{index}", "a.mp4", "ok") for index in range(11)]
    with ledger_writer(folder / NAME) as write:
        write([*rows, LedgerRow("x", EVIL, "failed", "damaged")])
    return folder


@pytest.fixture
def run(tmp_path, dataset):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(dump_config(TrainConfig(dataset=str(dataset), out=folder)))
    rows = [{"step": step, "loss": 3 / step, "train_top1": 0.1 * step, "stall_share": 0.001} for step in range(1, 8)]
    rows = [row | {"samples_per_second": 100.0} for row in rows] + [{"step": 7, "eval_base_top1": 0.65}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    top1 = {"accuracy": 0.7125, "chance": 0.0625, "samples": 480}
    task = {"classes": 16, "unreadable": 0, "top1": top1, "given": None, "per_class": {EVIL: top1}}
    given = {"accuracy": 0.8, "chance": 0.25, "samples": 471}
    evaluation = {
        "protocol": "base-novel",
        "step": 7,
        "given": "last-word",
        "tasks": {"base": task, "novel": task | {"given": given}},
        "harmonic_mean": {"accuracy": 0.7, "chance": 0.06},
    }
    (folder / "eval-base-novel.json").write_text(json.dumps(evaluation))
    return folder


@pytest.fixture
def page(tmp_path, run, dataset):
    jpeg = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(jpeg, "JPEG")
    out = tmp_path / "report.html"
    write_report(
        out,
        title=f"Demo {EVIL}",
        run=run,
        stages=[Stage(name="ingest", seconds=12.34, bytes=34_500, detail=EVIL), Stage(name="train", seconds=60.0)],
        dataset=dataset,
        contact_sheet=[(EVIL, jpeg.getvalue())],
    )
    return out.read_text()


def test_labels_and_captions_are_escaped(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert "script" not in Page(page).tags


def test_nothing_is_fetched(page):
    parsed = Page(page)
    assert parsed.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in parsed.addresses)
    assert not re.search(r"https?://|url\(|@import|<link", page)
    assert page.startswith("<!doctype html>")


def test_every_figure_stands_beside_its_chance(page):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert "base top-1 of 16 71.2 % 6.2 % 480" in text
    assert "novel top-1, last word given 80.0 % 25.0 % 471" in text
    assert "harmonic mean 70.0 % 6.0 %" in text


def test_what_went_in_and_out_is_shown(page):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert "ok 11" in text
    assert "failed damaged 1" in text
    assert "samples 12" in text
    assert "34.5 kB, 2.88 kB per sample" in text
    assert "12.3 34.5 kB" in text
    assert "optimizer.lr 8e-06" in text
    assert "torch 2." in text


def test_the_curves_are_drawn_within_their_box(page):
    lines = re.findall(r'<polyline class="s\d" points="([^"]*)"', page)
    assert len(lines) == 5
    for line in lines:
        points = np.array([[float(value) for value in point.split(",")] for point in line.split()])
        assert ((points >= 0) & (points <= [640, 220])).all()
    assert "loss: 0.4286 at the end" in page
    assert "base classes, held out: 65% at the end" in page


def test_a_run_that_was_never_evaluated_says_so(tmp_path, run, dataset):
    (run / "eval-base-novel.json").unlink()
    (run / "metrics.jsonl").unlink()
    out = tmp_path / "report.html"
    write_report(out, title="t", run=run, stages=[], dataset=dataset, contact_sheet=[])
    assert "No evaluation was made." in out.read_text()
    assert "<img" not in out.read_text()


def test_ticks_are_round_and_enclose():
    assert nice_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert nice_ticks(0, 0.72) == [0, 0.2, 0.4, 0.6, 0.8]
    assert nice_ticks(-1, 1) == [-1, -0.5, 0, 0.5, 1]
    for low, high in ((0, 0), (0, 1e-7), (0, 123456), (3, 3)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low <= high <= ticks[-1]
        assert 2 <= len(ticks) <= 7


def test_a_curve_of_one_point_and_an_empty_one_can_be_drawn():
    chart = draw("x", {"a": [(5, 2.0)], "b": []})
    assert [(line.name, line.last) for line in chart.lines] == [("a", "2")]


class TwoBatches(ClipLoader):
    """Batches of two over tensors; the second clip did not decode."""

    def __init__(self, config, classes, clips):
        self.config, self.classes, self.clips = config, classes, clips

    def __iter__(self):
        for start in range(0, len(self.clips), 2):
            clips = self.clips[start : start + 2]
            valid = torch.tensor([True, start > 0])
            labels = torch.tensor([1, -1])
            keys = [f"k{start}", f"k{start + 1}"]
            yield Batch(
                clips_BVTCHW=clips, labels_B=labels, action_ids_B=labels, keys=keys, captions=["", ""], valid_B=valid
            )


def test_a_strip_shows_the_frames_as_they_were_before_normalisation(tensor_loader):
    config = tensor_loader().config
    wanted = torch.rand(4, 1, 11, 3, 1, 1).expand(4, 1, 11, 3, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    loader = TwoBatches(config, ("a", "b"), (wanted - mean) / std)
    strips = contact_sheet(loader, clips=2)
    assert [caption for caption, _ in strips] == ["b · k0", "b · k2"]
    assert [caption for caption, _ in contact_sheet(loader, clips=9)] == ["b · k0", "b · k2", "no label · k3"]
    pixels = np.asarray(Image.open(io.BytesIO(strips[0][1]))) / 255
    assert pixels.shape == (16, 8 * 16, 3)
    for place, frame in ((0, 0), (7, 10)):
        got = pixels[4:12, place * 16 + 4 : place * 16 + 12].mean((0, 1))
        np.testing.assert_allclose(got, wanted[0, 0, frame, :, 0, 0], atol=0.06)
