"""AP-CLIP: prompts out of a bank, and the score of its equations."""

from collections.abc import Sequence

import pytest
import torch
from reelmill.shards.bank import Action, Bank
from reelmill.shards.errors import UsageError
from reelmill.train.config import ApClipConfig
from reelmill.train.methods.ap_clip import write_prompts


def make_bank():
    texts: dict[int, Sequence[str]] = {1: [f"text {index}" for index in range(9)], 2: ["only this"], 3: []}
    names = {1: "push cup", 2: "lift box", 3: "open door"}
    actions = [Action(i, name, name, (name.replace(" ", "ing "),), (), len(texts[i])) for i, name in names.items()]
    return Bank(actions, texts, "memory")


def test_prompts_are_prefix_and_descriptions_and_their_number_is_ragged():
    config = ApClipConfig(prefix="See {action}: ", prompts_per_class=4)
    prompts = write_prompts(["lift box", "pushing cup", "open door"], make_bank(), config, seed=3)
    assert prompts[0] == ["See lift box: only this"]
    assert len(set(prompts[1])) == 4
    assert all(text.startswith("See pushing cup: text ") for text in prompts[1])
    assert prompts[2] == ["See open door:"]


def test_a_class_has_the_same_prompts_whatever_the_other_classes():
    config, bank = ApClipConfig(prompts_per_class=4), make_bank()
    alone = write_prompts(["push cup"], bank, config, seed=3)[0]
    assert write_prompts(["lift box", "push cup"], bank, config, seed=3)[1] == alone
    assert write_prompts(["push cup"], bank, config, seed=4)[0] != alone


def test_without_prompts_per_class_no_bank_is_needed():
    assert write_prompts(["a b"], None, ApClipConfig(prompts_per_class=0), seed=0) == [["a video of a b."]]


def test_a_class_that_is_no_action_is_named():
    with pytest.raises(UsageError, match=r"'push cap'.*'push cup'"):
        write_prompts(["push cap"], make_bank(), ApClipConfig(), seed=0)


def outputs(method, clips, texts):
    return method(method.model.encode_video(clips), texts, method.model.encode_texts(texts.strings))


def test_the_logits_are_the_equations_over_all_views(tiny_method, classes):
    method = tiny_method().double()
    clips = torch.randn(4, 2, 3, 3, 16, 16, dtype=torch.float64)
    texts = method.describe(classes)
    assert texts.segments.lengths == (2, 1, 3)
    logits = outputs(method, clips, texts)
    frames = method.model.encode_video(clips).frames_BLD
    want = torch.zeros(4, 3, dtype=torch.float64)
    strings = iter(texts.strings)
    for index, length in enumerate(texts.segments.lengths):
        own = method.model.encode_texts([next(strings) for _ in range(length)]).texts_MD
        scores = frames @ own.T
        want[:, index] = (scores.amax(2).mean(1) + scores.amax(1).mean(1)) / 2
    torch.testing.assert_close(logits, want / 0.07)


def test_both_encoders_and_the_scale_get_gradients(tiny_method, classes):
    method = tiny_method()
    outputs(method, torch.randn(2, 1, 2, 3, 16, 16), method.describe(classes)).logsumexp(1).sum().backward()
    without = [name for name, value in method.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


def test_the_scale_is_kept_at_or_under_a_hundred(tiny_method):
    method = tiny_method()
    with torch.no_grad():
        method.model.log_scale.fill_(7)
    method.after_step()
    torch.testing.assert_close(method.model.log_scale.exp().item(), 100.0, rtol=1e-5, atol=0)
