"""A policy that is trained beside the shared weights."""

import json
import signal

import numpy as np
import pytest

import nas
from nas.catalogue import Catalogue
from nas.full_training.run import Unwatched
from nas.objective import Objective
from nas.weight_sharing.policy import DELAY, PolicySampler
from nas.weight_sharing.training import POLICY, SupernetTraining, run
from search_spaces import Conv, Head, Identity, MBConv, Network, SearchSpace, Stage, choice

STEPS = 500


def make_space() -> SearchSpace:
    op = choice(MBConv(kernel_size=choice(3, 5), expand_ratio=choice(2, 3, 6)), Identity())
    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(
            Stage(op=op, channels=choice(8, 16)),
            Stage(op=MBConv(expand_ratio=choice(1, 4)), channels=16),
        ),
        head=Head(channels=16, dropout=0.0),
        resolution=8,
        num_classes=3,
    )
    return SearchSpace(template, name="test")


SPACE = make_space()


def trained(value, objective="accuracy - 0.1 * |macs / 40k - 1|", seed=0, stop=STEPS, sampler=None):
    """A policy that saw a value for each network it drew."""
    catalogue = Catalogue(SPACE)
    policy = sampler or PolicySampler(catalogue, Objective.parse(objective), steps=STEPS, seed=seed)
    for step in range(policy.records[-1].step if policy.records else 0, stop):
        (tokens,) = policy.at(step).tokens
        policy.learn(step, tokens, value(tokens))
    policy.record(stop)
    return policy


def is_mbconv(tokens):
    return 0.5 + 0.4 * (SPACE.decode(tokens).stages[0].op != Identity())


def test_the_policy_finds_the_option_that_is_better_and_lands_on_the_target():
    for seed in range(3):
        best = trained(is_mbconv, seed=seed).most_probable()
        assert is_mbconv(best) == 0.9
        macs = Catalogue(SPACE).describe(best).costs["macs"]
        random = [
            abs(Catalogue(SPACE).describe(tokens).costs["macs"] / 40e3 - 1)
            for tokens in SPACE.sample_many(np.random.default_rng(0), 50).tolist()
        ]
        assert abs(macs / 40e3 - 1) < np.median(random)


def test_the_policy_stays_uniform_for_the_first_quarter_and_sizes_begin_at_their_largest():
    policy = trained(is_mbconv, stop=int(DELAY * STEPS))
    assert all(np.allclose(one, one[0]) for one in policy.records[-1].probabilities)
    widths = [SPACE.decode(policy.at(step).tokens[0]).stages[0].channels for step in range(20)]
    assert np.mean(widths) > 14


def test_decisions_that_are_not_active_are_not_learnt():
    only_identity = trained(lambda tokens: 1.0 - is_mbconv(tokens))
    at_end = dict(
        zip([d.name for d in SPACE.decisions], only_identity.records[-1].probabilities, strict=True)
    )
    assert SPACE.decode(only_identity.most_probable()).stages[0].op == Identity()
    kernel = next(value for name, value in at_end.items() if "kernel_size" in name)
    assert max(kernel) < 0.95


def test_a_policy_that_is_continued_is_the_same():
    whole = trained(is_mbconv)
    half = trained(is_mbconv, stop=STEPS // 2)
    stored = json.loads(json.dumps(half.numbers()))
    other = PolicySampler(
        Catalogue(SPACE), Objective.parse("accuracy - 0.1 * |macs / 40k - 1|"), steps=STEPS, seed=0
    )
    other.load(stored)
    assert trained(is_mbconv, sampler=other).records[-1] == whole.records[-1]


def test_networks_that_the_policy_draws_keep_the_limits():
    policy = trained(is_mbconv, objective="accuracy, macs <= 40k")
    drawn = policy.draws(10)
    assert len(set(drawn)) == len(drawn) > 3
    assert all(Catalogue(SPACE).describe(tokens).costs["macs"] <= 40e3 for tokens in drawn)


@pytest.mark.parametrize(
    ("objective", "law"),
    [("accuracy; macs", "several goals"), ("accuracy, latency_ms <= 5", "knows costs of networks only")],
)
def test_an_objective_that_a_policy_cannot_be_trained_for_is_refused(objective, law):
    with pytest.raises(nas.ObjectiveError, match=law):
        PolicySampler(Catalogue(SPACE), Objective.parse(objective), steps=10, seed=0)


def test_a_training_with_a_policy_that_was_stopped_ends_with_the_same_weights_and_policy(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("nas.full_training.fitting.LOOK_SECONDS", 0.0)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (rng.integers(0, 100, (60, 8, 8, 3)) + 50 * labels[:, None, None, None]).astype(np.uint8)
    data = nas.from_arrays(images, labels, name="greys")
    asked = SupernetTraining(
        space=SPACE,
        data=data,
        changes={"epochs": 2, "precision": "float32"},
        objective=Objective.parse("accuracy - 0.1 * |macs / 40k - 1|"),
    )
    options = nas.TrainOptions(device="cpu")
    whole = run(asked, tmp_path / "whole", options=options, watcher=Unwatched())

    class Stopped(Unwatched):
        def on_progress(self, progress):
            if progress.step >= 3 and progress.row is None:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run(
            asked,
            tmp_path / "stopped",
            options=nas.TrainOptions(device="cpu", checkpoint_steps=1),
            watcher=Stopped(),
        )
    assert run(asked, tmp_path / "stopped", options=options, watcher=Unwatched()).weights == whole.weights
    policies = [json.loads((tmp_path / name / POLICY).read_text()) for name in ("whole", "stopped")]
    assert policies[0] == policies[1]
