"""Answers over real HTTP: good ones, wrong ones that are repaired, and every way in which an endpoint fails."""

import gzip
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.bank.texts.generate import endpoint
from reelmill.engine.bank.texts.generate.ask import wait_seconds
from reelmill.engine.bank.texts.generate.endpoint import retry_after
from reelmill.engine.bank.texts.generate.run import generator
from reelmill.engine.bank.texts.origin import REASONS
from reelmill.shards.errors import ReelmillError, UsageError

GOOD = {"words": ["leap"]}


def say(text, **options):
    return lambda handler, body: handler.chat(text, **options)


def fail(status, message="no", code=None, **headers):
    return lambda handler, body: handler.error(status, message, code, **headers)


def raw(data, status=200, **headers):
    return lambda handler, body: handler.send(status, data, {k.replace("_", "-"): v for k, v in headers.items()})


def test_a_question_is_sent_as_the_protocol_has_it_and_answered(setup):
    answers, asked = setup.ask()
    (path, headers, body), *more = setup.model.requests
    assert not more
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["messages"]) == ("m", 100, list(setup.request().messages))
    assert body["response_format"]["json_schema"]["schema"] == setup.schema
    assert headers["accept-encoding"] == "identity"
    assert answers == {setup.request().hash: json.loads(setup.model.answer(body))}
    assert (asked.tally.answered, asked.tally.requests, asked.tally.tokens, asked.left) == (1, 1, 10, [])


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD)}\n```",
        f"<think>What { {'a'} }?</think>\n{json.dumps(GOOD)}",
    ],
)
def test_json_is_found_in_a_fence_and_after_a_thought(setup, text):
    setup.model.faults.append(say(text))
    answers, asked = setup.ask()
    assert list(answers.values()) == [GOOD]
    assert asked.tally.repaired == 0


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("Sure! Here are some words.", "the answer must be JSON alone"),
        ('{"words": ["leap", ', "the answer must be JSON alone"),
        ('{"words": []}', "$.words"),
        ('{"words": ["leap"], "more": 1}', "more"),
        ('{"words": [NaN]}', "NaN is not JSON"),
        ('{"words": ["\\ud800"]}', "the answer must be JSON alone"),
        ("[" * 100_000, "the answer must be JSON alone"),
    ],
)
def test_a_wrong_answer_is_shown_to_the_model_once(setup, wrong, shown):
    setup.model.faults += [say(wrong), say(json.dumps(GOOD))]
    answers, asked = setup.ask()
    assert list(answers.values()) == [GOOD]
    assert (asked.tally.repaired, asked.tally.requests) == (1, 2)
    *_, said, repair = setup.model.requests[1][2]["messages"]
    assert said == {"role": "assistant", "content": wrong[:20_000]}
    assert shown in repair["content"]


@pytest.mark.parametrize(("wrong", "reason"), [("no JSON", "malformed"), ('{"words": "leap"}', "schema")])
def test_a_second_wrong_answer_is_a_failure(setup, wrong, reason):
    setup.model.always = say(wrong)
    answers, asked = setup.ask()
    assert not answers
    assert [left.reason for left in asked.left] == [reason]
    assert asked.tally.requests == 2


def trickle(handler, body):
    """A good answer, byte by byte: no single wait is too long, but all together are."""
    text = json.dumps({"choices": [{"message": {"content": json.dumps(GOOD)}, "finish_reason": "stop"}]}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(12 + len(text)))
    handler.end_headers()
    for _ in range(12):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
    handler.wfile.write(text)


def cut(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


FAULTS = [
    ("rate_limit", fail(429, Retry_After="0.02")),
    ("rate_limit", fail(429, retry_after_ms="20")),
    ("server", fail(500)),
    ("server", fail(503, Retry_After="0")),
    ("server", raw(b"<html>welcome</html>", Content_Type="text/html")),
    ("server", raw(b'{"choices": []}')),
    ("server", raw(b'{"choices": [{"message": 3}]}')),
    ("server", raw(b"[" * 100_000)),
    ("timeout", fail(408)),
    ("timeout", lambda handler, body: time.sleep(0.6)),
    ("timeout", trickle),
    ("connection", cut),
    ("connection", lambda handler, body: handler.reset()),
]


@pytest.mark.parametrize(("reason", "fault"), FAULTS)
def test_a_passing_failure_is_tried_again(setup, reason, fault):
    setup.model.faults += [fault, fault]
    answers, asked = setup.ask(timeout_seconds=0.3)
    assert len(answers) == 1
    assert (asked.tally.requests, asked.tally.retried, asked.left) == (3, 2, [])


@pytest.mark.parametrize(("reason", "fault"), FAULTS)
def test_a_lasting_failure_is_told_after_the_last_try(setup, reason, fault):
    setup.model.always = fault
    answers, asked = setup.ask(timeout_seconds=0.3, tries=2)
    assert not answers
    assert [left.reason for left in asked.left] == [reason]
    assert asked.tally.requests == 2
    assert reason in REASONS


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("length", say('{"words": ["le', finish="length")),
        ("refused", say(None, refusal="I would rather not.")),
        ("refused", say("", finish="content_filter")),
        ("refused", fail(413)),
        ("rate_limit", fail(429, Retry_After="3600")),
        ("too_large", raw(b" " * (endpoint.MAX_ANSWER_BYTES + 1))),
        ("too_large", raw(gzip.compress(b" " * 1000), Content_Encoding="gzip")),
        ("too_large", raw(b" " * (endpoint.MAX_ANSWER_BYTES + 1), status=500)),
    ],
)
def test_what_another_try_cannot_help_is_asked_once(setup, reason, fault):
    setup.model.always = fault
    answers, asked = setup.ask()
    assert not answers
    assert [left.reason for left in asked.left] == [reason]
    assert asked.tally.requests == 1


def test_everybody_keeps_a_pause_that_one_was_asked_for(setup, monkeypatch):
    waits = []

    class Clock:
        def wait(self, seconds):
            waits.append(seconds)
            return True

        def is_set(self):
            return False

    setup.model.faults.append(fail(429, Retry_After="200"))
    with generator(setup.config(), setup.folder) as asked:
        monkeypatch.setattr(asked._asker, "_stopped", Clock())
        assert len(asked.answers([setup.request("jump"), setup.request("run")], "test")) == 2
    assert len(waits) == 3  # the back-off, then before each of the two requests
    assert all(100 < seconds <= 200 for seconds in waits)


def test_a_whole_answer_at_the_limit_of_tokens_counts(setup):
    setup.model.faults.append(say(json.dumps(GOOD), finish="length"))
    assert list(setup.ask()[0].values()) == [GOOD]


@pytest.mark.parametrize(("known", "form"), [({"json_object"}, {"type": "json_object"}), (set(), None)])
def test_an_endpoint_without_schemas_is_asked_for_less_and_remembered(setup, known, form):
    def choosy(handler, body):
        asked = body.get("response_format", {"type": "text"})["type"]
        if asked in known | {"text"}:
            handler.chat(json.dumps(GOOD))
        else:
            handler.error(400, f"response_format {asked} is not supported")

    setup.model.always = choosy
    answers, asked = setup.ask(setup.request("jump"), setup.request("run"))
    assert len(answers) == 2
    assert asked.tally.requests == 4 - len(known)
    assert setup.model.requests[-1][2].get("response_format") == form


def test_a_request_that_is_wrong_in_every_form_is_refused(setup):
    setup.model.always = fail(400, "context length exceeded")
    answers, asked = setup.ask()
    assert not answers
    assert [(left.reason, "context length" in left.detail) for left in asked.left] == [("refused", True)]
    assert asked.tally.requests == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (fail(401, "bad key"), r"refuses the request, which has no key \(see --key-env\): .*bad key"),
        (fail(403, "no"), "refuses the request"),
        (fail(404, "model m is not here"), "has no such model or address: .*model m is not here"),
        (fail(429, "pay", code="insufficient_quota"), "has no credit left"),
    ],
)
def test_what_every_request_would_meet_ends_the_run(setup, fault, message):
    setup.model.always = fault
    with pytest.raises(ReelmillError, match=message):
        setup.ask(*(setup.request(str(n)) for n in range(50)))
    assert len(setup.model.requests) < 5


def test_the_key_is_sent_and_never_shown(setup, monkeypatch, capsys):
    monkeypatch.setenv("TEST_ENDPOINT_KEY", setup.key)

    def tell_tale(handler, body):
        handler.error(500, f"wrong: {handler.headers['Authorization']}")

    setup.model.always = tell_tale
    _, asked = setup.ask(key_env="TEST_ENDPOINT_KEY", tries=1)
    assert setup.model.requests[0][1]["authorization"] == f"Bearer {setup.key}"
    assert "[key]" in asked.left[0].detail
    setup.model.always = None
    setup.ask(key_env="TEST_ENDPOINT_KEY")
    written = b"".join(path.read_bytes() for path in setup.folder.rglob("*") if path.is_file())
    said = capsys.readouterr()
    assert written
    assert setup.key not in f"{written!r}{said.out}{said.err}{asked.left}{asked.config}"


def test_a_key_that_is_not_set_is_told(setup, monkeypatch):
    monkeypatch.delenv("TEST_ENDPOINT_KEY", raising=False)
    with pytest.raises(UsageError, match=r"key_env must name an environment variable .* but TEST_ENDPOINT_KEY is not"):
        setup.ask(key_env="TEST_ENDPOINT_KEY")


def test_tokens_are_estimated_where_the_endpoint_does_not_count(setup):
    setup.model.always = say(json.dumps(GOOD), usage=False)
    assert setup.ask()[1].tally.tokens > 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "inf"}, 0),
        ({"retry-after": "nan"}, 0),
    ],
)
def test_what_an_endpoint_asks_to_wait(headers, seconds):
    assert retry_after(headers, now=100.0) == seconds


@given(st.integers(0, 200), st.floats(0, 60), st.text(max_size=8))
def test_waits_double_with_jitter_and_keep_what_was_asked(attempt, asked, name):
    seconds = wait_seconds(attempt, asked, 60.0, name)
    doubled = 2.0 ** min(attempt, 30)
    assert min(60.0, max(asked, doubled / 2)) <= seconds <= min(60.0, max(asked, doubled))
    assert seconds == wait_seconds(attempt, asked, 60.0, name)
