"""The sequence of samples belongs to no world size: any number of ranks gives it, and any goes on where others stood.

A thousand random cases: most through the order alone, which is all that decides who gets what, and the rest through
whole loaders over real tars, of which every rank decodes its share.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.engine.loading.places import Places
from reelmill.shards.errors import UsageError
from reelmill.shards.reader import Dataset

ORDER_CASES, LOADER_CASES = 900, 100
WORLDS = range(1, 17)


def worlds_of(global_batch: int) -> list[int]:
    return [world for world in WORLDS if global_batch % world == 0]


@st.composite
def configs(draw: st.DrawFn, shards: list[list[int]], most: int) -> LoaderConfig:
    training = draw(st.booleans())
    weights = None
    if training and draw(st.booleans()):
        weights = tuple(draw(st.sampled_from([0.1, 0.5, 1.0, 3.0])) for _ in shards)
    return LoaderConfig(
        global_batch=draw(st.integers(1, min(most, sum(map(sum, shards))))),
        frames=1,
        size=8,
        threads=1,
        seed=draw(st.integers(-3, 2**40)),
        training=training,
        weights=weights,
        window_shards=draw(st.none() | st.integers(1, 4)),
        prefetch=1,
    )


def together(shares: list[list[list[Any]]]) -> list[list[Any]]:
    """What the ranks have of each step, put together by position."""
    assert len({len(share) for share in shares}) == 1  # as many steps for each: none waits for another
    steps = []
    for parts in zip(*shares, strict=True):
        slots = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            slots[rank :: len(parts)] = part
        steps.append(slots)
    return steps


def ordered(places: Places, config: LoaderConfig, epoch: int, world: int, first_step: int = 0) -> list[list[Any]]:
    """The rest of an epoch: (source, number, whether it counts) of each slot of each step."""
    shares = []
    for rank in range(world):
        steps = []
        for step in range(first_step, places.steps):
            (its, numbers), counts = places.of_rank(epoch, step * config.global_batch, rank, world)
            steps.append(list(zip(its.tolist(), numbers.tolist(), counts.tolist(), strict=True)))
        shares.append(steps)
    return together(shares)


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(deadline=None, max_examples=ORDER_CASES)
@given(shards=SIZES.map(lambda sizes: [sizes]) | st.lists(SIZES, min_size=3, max_size=3), data=st.data())
def test_the_order_is_the_same_for_every_world_size(shards, data):
    config, epoch = data.draw(configs(shards, 48)), data.draw(st.integers(0, 3))
    places = Places(shards, config)
    whole = ordered(places, config, epoch, 1)
    first, second = (data.draw(st.sampled_from(worlds_of(config.global_batch))) for _ in range(2))
    assert ordered(places, config, epoch, first) == whole
    step = data.draw(st.integers(0, places.steps))
    assert ordered(Places(shards, config), config, epoch, second, step) == whole[step:]
    slots = [slot for slots in whole for slot in slots]
    assert [counted for *_, counted in slots] == [place < len(places) for place in range(len(slots))]
    if config.weights is None:  # then every sample comes once, but for the tail that training drops
        came = [(source, number) for source, number, counted in slots if counted]
        every = [(source, number) for source, sizes in enumerate(shards) for number in range(sum(sizes))]
        assert len(set(came)) == len(came) == (len(slots) if config.training else len(every))
        assert set(came) <= set(every)
        assert config.training or came == every


def facts(datasets: list[Path]) -> list[list[tuple[str, int]]]:
    """Key and payload bytes of every sample."""
    tables = [Dataset(dataset).table(["key", "members"]).to_pylist() for dataset in datasets]
    return [[(row["key"], row["members"][0]["size"]) for row in rows] for rows in tables]


def run(
    datasets: list[Path], config: LoaderConfig, world: int, state: dict[str, Any] | None, steps: int | None
) -> tuple[list[list[Any]], int, dict[str, Any]]:
    """What a world gives from a state on: (key, valid) of every slot of every step; bytes read; a rank's state."""
    shares, read, reached = [], 0, state
    for rank in range(world):
        loader = ClipLoader(datasets, config, rank=rank, world_size=world)
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        its = list(batches) if steps is None else [next(batches) for _ in range(steps)]
        batches.close()  # type: ignore[attr-defined]
        shares.append([list(zip(batch.keys, batch.valid_B.tolist(), strict=True)) for batch in its])
        read += loader.meter.read().payload_bytes
        reached = loader.state_dict()
        loader.close()
    assert reached is not None
    return together(shares), read, reached


@settings(deadline=None, max_examples=LOADER_CASES)
@given(data=st.data())
def test_loaders_give_the_order_and_read_nothing_again(sources, data):
    """Under one world size up to a random step, then under another to the end of the epoch."""
    chosen = data.draw(st.sampled_from([sources[:1], sources]))
    known, shards = facts(chosen), [Dataset(dataset).shard_sizes for dataset in chosen]
    config = data.draw(configs(shards, 16))
    places = Places(shards, config)
    want = ordered(places, config, 0, 1)
    keys = [[(known[source][number][0], counted) for source, number, counted in slots] for slots in want]
    step = data.draw(st.integers(0, len(want)))
    first, second = (data.draw(st.sampled_from(worlds_of(config.global_batch))) for _ in range(2))
    begun, _, state = run(chosen, config, first, None, step)
    assert begun == keys[:step]
    assert state["position"] == step * config.global_batch
    rest, read, state = run(chosen, config, second, state, None)
    assert rest == keys[step:]
    assert (state["epoch"], state["position"]) == (1, 0)
    left = [known[source][number][1] for slots in want[step:] for source, number, counted in slots if counted]
    assert read == sum(left)  # not a byte of what was consumed


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_processes_do_not_change_the_sequence(sources, workers):
    config = LoaderConfig(global_batch=4, frames=1, size=8, seed=9, weights=(1.0, 0.5, 3.0), threads=1)
    whole, total, _ = run(sources, config, 1, None, None)
    processes = replace(config, workers=workers)
    _, _, state = run(sources, config, 2, None, 1 + workers)
    rest, read, _ = run(sources, processes, 1, state, None)
    assert rest == whole[1 + workers :]
    assert 0 < read < total


def test_worlds_that_do_not_divide_the_batch_are_refused():
    for global_batch in range(1, 33):
        for world in set(WORLDS) - set(worlds_of(global_batch)):
            with pytest.raises(UsageError, match=f"world_size must divide global_batch {global_batch} .* of {world}$"):
                ClipLoader("nowhere", LoaderConfig(global_batch=global_batch), world_size=world)
