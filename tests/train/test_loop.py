"""The loop: it learns, resumes bit for bit, stops on NaN and on SIGTERM, and says how fast it was."""

import itertools
import json
import os
import re
import signal
from dataclasses import replace

import pytest
import torch
from reelmill.shards.errors import DamageError, ReelmillError, UsageError
from reelmill.train import checkpoint
from reelmill.train.config import ModelConfig, OptimizerConfig
from reelmill.train.loop import Stopped, Trainer
from reelmill.train.optimizer import learning_rate
from reelmill.train.run_log import RunLog, read_metrics


def newest(run):
    path = checkpoint.latest(run)
    assert path is not None
    return path


@pytest.fixture
def make_trainer(tensor_loader, tiny_method, classes):
    def make(config, total=6):
        return Trainer(config, tiny_method(), classes, tensor_loader(), total=total)

    return make


def fit(trainer, until=None, validate=dict):
    with RunLog(trainer.config.out, after_step=trainer.step) as log:
        trainer.fit(log, validate, until=until)


@pytest.fixture
def run_config(tiny_config):
    tiny_config.out.mkdir()
    return tiny_config


def test_the_rate_rises_then_falls_to_a_hundredth():
    config = OptimizerConfig(lr=1.0, warmup=0.2)
    rates = [learning_rate(step, 101, config) for step in range(101)]
    assert rates[:3] == [0.05, 0.1, pytest.approx(0.15)]
    assert max(rates) == rates[20] == 1.0
    assert all(later < sooner for sooner, later in itertools.pairwise(rates[20:]))
    assert 0.01 < rates[-1] < 0.011
    assert learning_rate(0, 1, OptimizerConfig(lr=1.0, warmup=0.0)) == 1.0


def test_it_learns_to_tell_colours(run_config, make_trainer):
    trainer = make_trainer(replace(run_config, optimizer=OptimizerConfig(lr=1e-2, warmup=0.0)), total=30)
    fit(trainer)
    rows = read_metrics(run_config.out)
    assert rows[-1]["step"] == 30
    assert rows[-1]["train_top1"] == 1.0
    assert rows[-1]["loss"] < rows[0]["loss"] / 2


def test_three_steps_and_three_more_are_six_steps_bit_for_bit(run_config, make_trainer):
    straight, halves = replace(run_config, out=run_config.out / "a"), replace(run_config, out=run_config.out / "b")
    for config in (straight, halves):
        config.out.mkdir()
    whole = make_trainer(straight)
    fit(whole)

    first = make_trainer(halves)
    fit(first, until=4)  # past the end of an epoch, in the middle of the next
    torch.manual_seed(99)
    second = make_trainer(halves)
    second.resume()
    assert (second.step, second.loader.state_dict()) == (4, {"epoch": 1, "position": 1})
    fit(second)

    weights, resumed = whole.method.state_dict(), second.method.state_dict()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    moments, again = (trainer.optimizer.state_dict()["state"] for trainer in (whole, second))
    assert all(torch.equal(moments[index][name], again[index][name]) for index in moments for name in moments[index])
    losses = [[row["loss"] for row in read_metrics(config.out) if row["step"] > 4] for config in (straight, halves)]
    assert losses[0] == losses[1]


def test_an_average_is_what_is_exported_and_goes_on_after_a_resume(run_config, make_trainer):
    config = replace(run_config, optimizer=OptimizerConfig(lr=1e-2, average=0.5, clip_norm=0.1), checkpoint_every=2)
    straight, halves = replace(config, out=config.out / "a"), replace(config, out=config.out / "b")
    for each in (straight, halves):
        each.out.mkdir()
    whole = make_trainer(straight)
    fit(whole)
    fit(make_trainer(halves), until=4)
    second = make_trainer(halves)
    second.resume()
    fit(second)
    weights, resumed = whole.method.state_dict(), second.method.state_dict()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert all(torch.equal(value, second.average.values[name]) for name, value in whole.average.values.items())
    exported = checkpoint.load_model(newest(straight.out), ModelConfig(), precision="fp32")[0].clip.visual.proj
    assert torch.equal(exported, whole.average.values["model.clip.visual.proj"])
    assert not torch.equal(exported, whole.method.model.clip.visual.proj)


def test_a_gradient_that_is_too_long_is_shortened(run_config, make_trainer):
    trainer = make_trainer(replace(run_config, optimizer=OptimizerConfig(lr=1e-3, clip_norm=1e-3)))
    fit(trainer, until=1)
    squares = sum(weight.grad.square().sum() for weight in trainer.method.parameters() if weight.grad is not None)
    assert squares.sqrt().item() == pytest.approx(1e-3, rel=1e-3)


def test_a_few_steps_are_traced_on_request(run_config, make_trainer):
    fit(make_trainer(replace(run_config, profile=2)), until=5)
    events = json.loads((run_config.out / "trace-0.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if event["name"].startswith("ProfilerStep#")}
    assert steps == {"ProfilerStep#3", "ProfilerStep#4"}


def test_recomputed_blocks_learn_the_same(run_config, make_trainer):
    weights = []
    for recompute in (False, True):
        trainer = make_trainer(replace(run_config, out=run_config.out / str(recompute)))
        trainer.config.out.mkdir()
        trainer.method.model.prepare(ModelConfig(recompute=recompute))
        fit(trainer, until=2)
        weights.append(trainer.method.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_only_whole_frames_are_recomputed():
    with pytest.raises(UsageError, match=r'model\.recompute must be False where model\.video is "regions", got True'):
        ModelConfig(recompute=True, video="regions")


def test_rows_after_the_checkpoint_are_written_once(run_config, make_trainer):
    fit(make_trainer(run_config), until=2)
    with (run_config.out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 77.0}\n{"step": 5, "lo')  # a process killed between checkpoints
    trainer = make_trainer(run_config)
    trainer.resume()
    fit(trainer)
    rows = read_metrics(run_config.out)
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(row["loss"] < 77 for row in rows)


def test_a_row_holds_the_figures_and_validation_has_its_own(run_config, make_trainer):
    fit(make_trainer(replace(run_config, eval_every=3)), validate=lambda: {"eval_base_top1": 0.5})
    rows = read_metrics(run_config.out)
    assert [row["step"] for row in rows] == [2, 3, 4, 6, 6]
    assert rows[1] == {"step": 3, "eval_base_top1": 0.5}
    speed = {"samples_per_second", "frames_per_second", "tflops", "stall_share"}
    assert rows[0].keys() == {"step", "loss", "train_top1", "epoch", "lr"} | speed
    assert rows[0]["frames_per_second"] == pytest.approx(2 * rows[0]["samples_per_second"])
    assert rows[0]["tflops"] > 0
    assert rows[0]["epoch"] == pytest.approx(2 / 3)
    assert rows[0]["samples_per_second"] > 0
    assert rows[0]["stall_share"] == 0
    assert list((run_config.out / "tensorboard").glob("events.*"))


def test_a_loss_that_is_nan_stops_before_it_is_saved(run_config, make_trainer):
    trainer = make_trainer(replace(run_config, checkpoint_every=2, log_every=100))
    fit(trainer, until=2)
    trainer.loader.clips[:] = float("nan")
    with pytest.raises(
        ReelmillError, match=r"the loss must stay finite, but its part 'classes' is nan at step 3; lower optimizer\.lr"
    ):
        fit(trainer)
    assert newest(run_config.out).name == "step-00000002"


def test_sigterm_writes_a_checkpoint_and_says_how_to_go_on(run_config, make_trainer):
    trainer = make_trainer(replace(run_config, eval_every=2))
    handler = signal.getsignal(signal.SIGTERM)

    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)
        return {"asked": 1.0}

    with pytest.raises(Stopped, match="stopped by SIGTERM at step 3; the same command goes on from there"):
        fit(trainer, validate=terminate)
    assert signal.getsignal(signal.SIGTERM) is handler
    again = make_trainer(run_config)
    again.resume()
    fit(again)
    assert again.step == 6


def test_only_the_newest_checkpoints_stay_and_leftovers_go(run_config, make_trainer):
    folder = run_config.out / "checkpoints"
    (folder / ".step-00000001.part").mkdir(parents=True)
    fit(make_trainer(replace(run_config, checkpoint_every=1, keep_checkpoints=2)), until=5)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000004", "step-00000005"]


def test_open_clip_loads_a_checkpoint_as_it_is(run_config, make_trainer):
    trainer = make_trainer(run_config)
    fit(trainer, until=2)
    path = newest(run_config.out)
    import open_clip  # only after the workaround for torchvision

    loaded = open_clip.create_model(f"local-dir:{path}")
    weights = trainer.method.model.clip.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    model, step = checkpoint.load_model(path, ModelConfig(), precision="fp32")
    assert step == 2
    assert torch.equal(model.text.tokenize(["lift the cup"]), trainer.method.model.text.tokenize(["lift the cup"]))


@pytest.mark.parametrize(
    "name", ["open_clip_model.safetensors", "method.safetensors", "training.safetensors", "state.json"]
)
def test_a_damaged_checkpoint_is_named(run_config, make_trainer, name):
    fit(make_trainer(run_config), until=2)
    path = newest(run_config.out)
    (path / name).write_bytes((path / name).read_bytes()[:4])
    with pytest.raises(DamageError, match=re.escape(f"checkpoint {path} must be whole, but does not read: ")):
        make_trainer(run_config).resume()


def test_a_checkpoint_of_another_model_is_refused(run_config, make_trainer):
    fit(make_trainer(run_config), until=2)
    path = newest(run_config.out)
    other = make_trainer(run_config)
    other.method.model.clip.visual.proj = torch.nn.Parameter(torch.zeros(16, 32))
    with pytest.raises(UsageError, match=r"must hold the weights of the run's model: .*visual\.proj"):
        checkpoint.restore(path, other.method, other.optimizer)


def test_a_checkpoint_holds_no_pickle(run_config, make_trainer):
    fit(make_trainer(run_config), until=2)
    path = newest(run_config.out)
    models = {"open_clip_config.json", "open_clip_model.safetensors"}
    names = models | {"method.safetensors", "training.safetensors", "state.json"}
    assert {file.name for file in path.iterdir()} == names
    assert json.loads((path / "state.json").read_text()) == {"step": 2, "loader": {"epoch": 0, "position": 2}}
