"""Many questions: concurrency, budget, the cache, and runs that are killed."""

import json
import sys

import pytest
from reelmill.engine.bank.texts.config import GenerateConfig
from reelmill.engine.bank.texts.generate.cache import Cache
from reelmill.engine.bank.texts.generate.request import Request
from reelmill.engine.bank.texts.generate.run import generator
from reelmill.engine.work import Work
from reelmill.shards.errors import UsageError


def requests(setup, count):
    return [setup.request(f"action {n}") for n in range(count)]


def test_what_was_answered_is_never_asked_again(setup):
    first, _ = setup.ask(*requests(setup, 5))
    again, asked = setup.ask(*requests(setup, 5))
    assert again == first
    assert len(setup.model.requests) == 5
    assert (asked.tally.cached, asked.tally.requests, asked.tally.tokens) == (5, 0, 0)


def test_failures_are_asked_again_next_time(setup):
    setup.model.faults += [lambda handler, body: handler.error(500, "down")] * 2
    answers, asked = setup.ask(*requests(setup, 3), tries=2)
    assert len(answers) == 2
    assert [left.about for left in asked.left] == ["action 0"]
    answers, asked = setup.ask(*requests(setup, 3))
    assert len(answers) == 3
    assert asked.tally.requests == 1


def test_the_same_question_is_asked_once(setup):
    answers, asked = setup.ask(*[setup.request("jump")] * 7, concurrency=4)
    assert len(answers) == 1
    assert asked.tally.requests == 1


def test_so_many_at_a_time_and_no_more(setup):
    setup.model.slow = 0.02
    answers, _ = setup.ask(*requests(setup, 24), concurrency=4)
    assert len(answers) == 24
    assert 2 <= setup.model.most_running <= 4


def test_a_budget_of_requests_holds_over_all_threads_and_tries(setup):
    setup.model.faults.append(lambda handler, body: handler.error(500, "down"))
    answers, asked = setup.ask(*requests(setup, 20), concurrency=4, max_requests=7)
    assert len(setup.model.requests) == asked.tally.requests == 7
    assert {left.reason for left in asked.left} == {"budget"}
    assert len(answers) + len(asked.left) == 20
    assert "7 are used up" in asked.left[0].detail
    answers, _ = setup.ask(*requests(setup, 20))
    assert len(answers) == 20
    assert len(setup.model.requests) == 21


def test_a_budget_of_tokens(setup):
    answers, asked = setup.ask(*requests(setup, 20), max_tokens=35)
    assert len(answers) == 4  # ten tokens each
    assert [left.reason for left in asked.left] == ["budget"] * 16


def test_without_any_budget_left_the_cache_still_answers(setup):
    setup.ask(*requests(setup, 3))
    answers, asked = setup.ask(*requests(setup, 4), max_requests=0)
    assert len(answers) == 3
    assert [left.reason for left in asked.left] == ["budget"]


def test_an_interrupt_ends_the_run_and_keeps_the_answers(setup, monkeypatch):
    with generator(setup.config(), setup.folder) as asked:
        take, taken = asked._take, []

        def interrupt(*arguments):
            take(*arguments)
            taken.append(1)
            if len(taken) == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(asked, "_take", interrupt)
        with pytest.raises(KeyboardInterrupt):
            asked.answers(requests(setup, 50), "test")
    sent = len(setup.model.requests)
    assert 3 <= sent < 50
    answers, again = setup.ask(*requests(setup, 50))
    assert len(answers) == 50
    assert again.tally.cached >= 3


def test_two_jobs_do_not_share_a_folder_of_answers(setup):
    with (
        Work(setup.folder / ".answers").lock(),
        pytest.raises(UsageError, match=r"another job is at work on .*\.answers"),
    ):
        setup.ask()


def test_a_hash_names_all_that_decides_an_answer_and_nothing_of_the_endpoint(setup):
    base = setup.request()
    assert base.hash == "af9acbbcd55be9fb41e3264eca4d902c"
    fields = {name: getattr(base, name) for name in ("about", "model", "messages", "schema", "parameters")}
    assert Request(**fields | {"about": "other"}).hash == base.hash
    changes = {"model": "n", "messages": base.messages[:1], "schema": {}, "parameters": {"max_tokens": 9}}
    assert len({base.hash, *(Request(**fields | {name: value}).hash for name, value in changes.items())}) == 5


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"answer": {"words": 3}}', b"\xff", b"[" * 100_000])
def test_a_damaged_answer_is_asked_again(setup, data):
    first, _ = setup.ask()
    (path,) = (setup.folder / ".answers").rglob("*.json")
    path.write_bytes(data)
    again, asked = setup.ask()
    assert again == first
    assert asked.tally.requests == 1


def test_an_answer_keeps_its_question_and_nothing_of_the_time(setup):
    setup.ask()
    (path,) = (setup.folder / ".answers").rglob("*.json")
    before, record = path.read_bytes(), json.loads(path.read_bytes())
    assert set(record) == {"about", "model", "parameters", "messages", "answer", "repaired"}
    path.unlink()
    setup.ask()
    assert path.read_bytes() == before


def test_what_a_killed_run_left_half_written_goes(setup, tmp_path):
    part = tmp_path / "cache" / "ab" / ".x.json.1234.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"{")
    Cache(tmp_path / "cache").open()
    assert not part.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generate": True, "model": "m"}, "endpoint must be given with --generate"),
        ({"generate": True, "endpoint": "http://x"}, "model must be given with --generate"),
        ({"endpoint": "localhost:80"}, "endpoint must be a URL with http:// or https://"),
        ({"endpoint": "http://me:secret@x"}, "endpoint must be a URL with http:// or https:// and without a password"),
        ({"key_env": "sk-123"}, "key_env must be the name of an environment variable .*, not a key$"),
        ({"concurrency": 0}, "concurrency must be > 0, got 0"),
        ({"tries": 0}, "tries must be > 0, got 0"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds must be > 0 and finite, got inf"),
        ({"max_tokens": -1}, "max_tokens must be >= 0, got -1"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        GenerateConfig(**options)


def test_without_the_package_the_extra_is_named(setup, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match=r"--generate needs the package openai: pip install 'reelmill\[generate\]'"):
        setup.ask()
