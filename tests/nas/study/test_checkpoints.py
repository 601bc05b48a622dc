from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import StudyError
from nas.execution.inline_executor import InlineExecutor
from nas.metrics import ACCURACY, Goal
from nas.outcome import TrialOutcome
from nas.study.checkpoints import (
    MOST_ON_FRONT,
    CheckpointStore,
    Entry,
    entry_of,
    front_of,
    joined,
    thinned,
    weights_name,
)
from nas.trial import Metric, Result, Status, Trial
from search_spaces import Cost, Head, MBConv, Network, Stage

NETWORK = Network(
    stem=Stage(op=MBConv(), channels=8),
    stages=(Stage(op=MBConv(), channels=8),),
    head=Head(channels=0),
    resolution=8,
    num_classes=3,
)

MACS = (ACCURACY, Goal.of("macs"))
BOTH = (*MACS, Goal.of("latency_ms"))
ALL = (*BOTH, Goal.of("params"))
WHOLE = st.just(1.0)
shares = st.sampled_from((0.1, 0.2, 0.3, 0.4))


def entries(costs, *, fidelities=WHOLE, most=14):
    cost = st.tuples(*(st.sampled_from((1.0, 2.0, 3.0, 5.0)) for _ in range(costs)))
    row = st.tuples(shares, cost, fidelities)
    return st.lists(row, max_size=most).map(
        lambda rows: [
            Entry(number=number, value=accuracy, reward=accuracy, costs=found, fidelity=fidelity)
            for number, (accuracy, found, fidelity) in enumerate(rows)
        ]
    )


def beats(one, other):
    no_worse = one.value >= other.value and all(a <= b for a, b in zip(one.costs, other.costs))  # noqa: B905
    return no_worse and (one.value, one.costs) != (other.value, other.costs)


@given(found=st.integers(1, 3).flatmap(entries))
def test_the_front_is_what_no_other_beats_and_of_equals_the_first(found):
    front = front_of(found, ALL[: 1 + len(found[0].costs)] if found else ALL)
    expected = {
        one.number
        for one in found
        if not any(beats(other, one) for other in found)
        and not any(
            (other.value, other.costs) == (one.value, one.costs) and other.number < one.number
            for other in found
        )
    }
    assert {entry.number for entry in front} == expected
    assert [entry.costs for entry in front] == sorted(entry.costs for entry in front)


@given(found=entries(2, fidelities=st.sampled_from((0.2, 1.0))))
def test_the_front_is_of_the_highest_fidelity_there_is(found):
    highest = max((entry.fidelity for entry in found), default=1.0)
    assert front_of(found, BOTH) == front_of((e for e in found if e.fidelity == highest), BOTH)


@given(data=st.data(), found=entries(2, fidelities=st.sampled_from((0.2, 1.0))))
def test_a_front_that_entries_join_one_by_one_in_any_order_is_that_of_all(data, found):
    front = []
    for entry in data.draw(st.permutations(found)):
        front = joined(front, entry, BOTH)
    assert front == front_of(found, BOTH)


@pytest.mark.parametrize("missing", [{}, {"macs": 1.0}, {"macs": 1.0, "latency_ms": float("nan")}])
def test_a_trial_without_one_of_the_costs_is_not_compared(missing):
    given = {"reward": 0.5, "goals": BOTH, "fidelity": 1.0}
    assert entry_of(0, metrics={"accuracy": 0.5, **missing}, **given) is None
    found = entry_of(0, metrics={"accuracy": 0.5, "macs": 1, "latency_ms": 2}, **given)
    assert (found.value, found.costs) == (0.5, (1.0, 2.0))


def finished(entry):
    """A trial and its outcome with the entry's numbers; its costs are macs and a latency."""
    macs, latency = (*entry.costs, 1.0)[:2]
    trial = Trial(
        number=entry.number,
        tokens=(entry.number,),
        decode=lambda: NETWORK,
        digest=str(entry.number),
        cost=Cost(macs=int(macs), params=1, activations=1),
        seed=0,
        fidelity=entry.fidelity,
    )
    outcome = TrialOutcome(
        number=entry.number,
        status=Status.COMPLETED,
        reward=entry.reward,
        value=entry.value,
        metrics=(
            Metric(name="accuracy", value=entry.value, unit="fraction"),
            Metric(name="latency_ms", value=latency, unit="ms"),
        ),
    )
    return trial, outcome


class Giving(InlineExecutor):
    """Has the weights of every job."""

    def weights(self, job):  # noqa: ARG002
        return b"weights"


def keep(checkpoints, found):
    """Goes through trials as the search loop does; gives those whose files are left."""
    for entry in found:
        trial, outcome = finished(entry)
        result = Result(job=trial.job(1), status=Status.COMPLETED, has_weights=True)
        fetched = checkpoints.fetch(trial, outcome, result, Giving())
        is_wanted = checkpoints.place(trial, outcome)
        assert (fetched.weights is not None) is is_wanted
        if is_wanted:
            checkpoints.save(outcome, fetched)
        checkpoints.drop(checkpoints.unwanted())
    return checkpoints


def files(folder):
    return {int(path.name[6:11]) for path in (folder / "weights").glob("trial-*")}


@given(found=entries(1, fidelities=st.sampled_from((0.2, 1.0)), most=8), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_what_is_kept_does_not_depend_on_the_order_of_the_trials(tmp_path_factory, found, seed):
    folders = [tmp_path_factory.mktemp("study") for _ in range(2)]
    order = np.random.default_rng(seed).permutation(len(found))
    for folder, trials in zip(folders, (found, [found[place] for place in order]), strict=True):
        keep(CheckpointStore(folder, goals=MACS, best=2), trials)
    assert files(folders[0]) == files(folders[1])


def test_over_several_costs_too_what_is_kept_is_the_whole_front_while_that_is_small(tmp_path):
    found = [
        Entry(number=number, value=accuracy, reward=0.0, costs=costs)
        for number, (accuracy, costs) in enumerate(
            [(0.5, (1.0, 9.0)), (0.5, (9.0, 1.0)), (0.4, (5.0, 5.0)), (0.4, (6.0, 5.0))]
        )
    ]
    for turn, order in enumerate(permutations(found)):
        folder = tmp_path / str(turn)
        folder.mkdir()
        keep(CheckpointStore(folder, goals=BOTH, best=0), order)
        assert files(folder) == {0, 1, 2}


def test_the_best_are_of_the_highest_fidelity_first(tmp_path):
    rows = [(0.9, 0.2), (0.8, 0.2), (0.3, 1.0), (0.2, 1.0)]
    found = [
        Entry(number=number, value=reward, reward=reward, costs=(5.0,), fidelity=fidelity)
        for number, (reward, fidelity) in enumerate(rows)
    ]
    keep(CheckpointStore(tmp_path, goals=MACS, best=2), found[:3])
    assert files(tmp_path) == {0, 2}
    keep(CheckpointStore(tmp_path, goals=MACS, best=2), found)
    assert files(tmp_path) == {2, 3}


def spread_front(count, *, seed=0):
    """Entries on a sphere: none beats another."""
    rng = np.random.default_rng(seed)
    points = np.abs(rng.normal(size=(count, 3)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return [
        Entry(
            number=number,
            value=float(point[0]),
            reward=0.0,
            costs=(float(1e6 * (2 - point[1])) // 1, float(2 - point[2])),
        )
        for number, point in enumerate(points)
    ]


def test_a_large_front_over_several_costs_is_thinned_and_keeps_its_ends(tmp_path):
    found = spread_front(120)
    assert len(front_of(found, BOTH)) == 120
    keep(CheckpointStore(tmp_path, goals=BOTH, best=1), found)
    kept = files(tmp_path)
    assert MOST_ON_FRONT <= len(kept) <= MOST_ON_FRONT + 1
    ends = [
        max(found, key=lambda e: e.value),
        min(found, key=lambda e: e.costs[0]),
        min(found, key=lambda e: e.costs[1]),
    ]
    assert {entry.number for entry in ends} <= kept


def test_a_front_over_one_cost_is_kept_whole(tmp_path):
    found = [
        Entry(number=number, value=number / 100, reward=0.0, costs=(float(number + 1),))
        for number in range(50)
    ]
    keep(CheckpointStore(tmp_path, goals=MACS, best=1), found)
    assert len(files(tmp_path)) == 50


def test_what_a_resumed_search_keeps_is_what_was_kept_before(tmp_path):
    found = spread_front(80)
    keep(CheckpointStore(tmp_path, goals=BOTH, best=1), found)
    before = files(tmp_path)
    again = CheckpointStore(tmp_path, goals=BOTH, best=1)
    for entry in found:
        trial, outcome = finished(entry)
        file = f"weights/trial-{entry.number:05d}.safetensors" if entry.number in before else None
        again.place(trial, TrialOutcome(**{**as_fields(outcome), "weights_file": file}))
    again.sweep({entry.number for entry in found})
    assert again.unwanted() == ()
    assert files(tmp_path) == before


def as_fields(outcome):
    return {name: getattr(outcome, name) for name in outcome.__slots__}


def test_thinning_leaves_the_front_evenly_spread():
    dense = [Entry(number=n, value=0.5 + n / 1e4, reward=0.0, costs=(1 + n / 1e4,)) for n in range(20)]
    sparse = [Entry(number=20 + n, value=0.6 + n / 10, reward=0.0, costs=(2.0 + n,)) for n in range(4)]
    left = {entry.number for entry in thinned([*dense, *sparse], MACS, 6)}
    assert {entry.number for entry in sparse} <= left
    assert 0 in left


def test_weights_that_training_may_go_on_from_are_held(tmp_path):
    held = {1}
    halving = SimpleNamespace(held=lambda: held, may_hold=lambda trial, _: trial.number in held)
    checkpoints = CheckpointStore(tmp_path, goals=MACS, best=1, halving=halving)
    rows = [(0.9, 1.0), (0.5, 2.0), (0.4, 3.0)]
    keep(
        checkpoints,
        [Entry(number=n, value=reward, reward=reward, costs=(c,)) for n, (reward, c) in enumerate(rows)],
    )
    assert files(tmp_path) == {0, 1}
    held.clear()
    checkpoints.drop(checkpoints.unwanted())
    assert files(tmp_path) == {0}


def test_weights_do_not_make_a_folder_anew_that_was_moved_away(tmp_path):
    checkpoints = CheckpointStore(tmp_path / "moved", goals=MACS)
    trial, outcome = finished(Entry(number=0, reward=0.5, value=0.5, costs=(1.0,)))
    result = Result(job=trial.job(1), status=Status.COMPLETED, has_weights=True)
    fetched = checkpoints.fetch(trial, outcome, result, Giving())
    assert checkpoints.place(trial, outcome)
    kept, problem = checkpoints.save(outcome, fetched)
    assert kept.weights_file is None
    assert "No such file" in problem
    assert not (tmp_path / "moved").exists()


def test_weights_that_cannot_be_removed_end_no_search_and_are_said_when_it_is_continued(tmp_path):
    checkpoints = CheckpointStore(tmp_path, goals=MACS, best=1)
    stuck = tmp_path / weights_name(0)
    (stuck / "held").mkdir(parents=True)  # a folder is no file that can be removed
    checkpoints.drop([0])
    with pytest.raises(StudyError, match=r"cannot be removed .*: allow writing to"):
        checkpoints.sweep({0})
