"""Finalizing a search from Python; what the command prints is tested with the commands."""

import numpy as np
import pytest

import nas
from nas.data.loading import from_arrays
from nas.errors import StudyError, UsageError
from nas.evaluation.comparison import load_comparison
from nas.finalizing import Unwatched
from nas.trial import Cause, InfeasibleError
from search_spaces import cost


def by_size(candidate):
    return min(1.0, 0.3 + cost(candidate.network).macs / 1e6)


def made(space, out, accuracy=by_size, **options):
    given = {"budget": nas.Budget(trials=6), **options}
    return nas.search(space, evaluator=nas.TableEvaluator(accuracy), executor="inline", out=out, **given)


@pytest.fixture
def study(small_space, tmp_path):
    return made(small_space, tmp_path / "study")


@pytest.fixture(scope="module")
def data():
    return from_arrays(np.zeros((80, 8, 8, 3), np.uint8), np.arange(80) % 4)


class Told(Unwatched):
    def __init__(self):
        self.labels, self.trained, self.compared = [], [], []

    def on_comparing(self, labels):
        self.labels += labels

    def on_finished(self, finished):
        self.trained.append(finished.training.label)

    def on_compared(self, comparison):
        self.compared.append(comparison)


def test_the_winner_is_compared_drawn_and_reported(study, data):
    told = Told()
    options = {"data": data, "evaluator": nas.TableEvaluator(by_size), "randoms": 2, "seeds": 2}
    found = nas.finalize(study, **options, watcher=told)
    assert found.winner == study.best
    assert told.trained == told.labels
    assert len(told.labels) == 2 * len(found.comparison.contenders) >= 6
    assert told.compared == [found.comparison]
    assert load_comparison(study.folder) == found.comparison
    assert found.comparison.class_counts == (4, 4, 4, 4)
    assert [path.name for path in found.pictures] == ["search.png", "winner.png"]
    assert found.bundle is None  # a table trains no weights
    again = Told()
    assert nas.finalize(study, **options, watcher=again) == found
    assert again.trained == []


@pytest.mark.parametrize("options", [{}, {"seeds": 0}])
def test_the_comparison_is_left_out_without_images_or_seeds(study, data, options):
    found = nas.finalize(study, data=data if options else None, **options)
    assert found.comparison is None
    assert all(path.is_file() for path in found.pictures)


def test_a_study_without_its_space_or_with_nothing_completed_is_refused(small_space, study, data, tmp_path):
    with pytest.raises(StudyError) as error:
        nas.finalize(nas.open_study(study.folder), data=data, evaluator=nas.TableEvaluator(by_size))
    assert error.value.field == "study"

    def never(_candidate):
        raise InfeasibleError(Cause.DIVERGED, "loss is nan")

    with pytest.raises(StudyError, match="4 infeasible") as error:
        nas.finalize(made(small_space, tmp_path / "failed", never, budget=nas.Budget(trials=4)))
    assert error.value.field == "study"


@pytest.mark.parametrize("name", ["seeds", "randoms"])
def test_a_number_below_zero_is_refused_by_name(study, name):
    with pytest.raises(UsageError) as error:
        nas.finalize(study, **{name: -1})
    assert error.value.field == name


@pytest.mark.parametrize(
    ("name", "value"),
    [("study", "runs/a"), ("study", None), ("data", "photos"), ("evaluator", 3), ("executor", "inline")],
)
def test_what_is_of_another_kind_is_refused_by_name(study, data, name, value):
    given = {"study": study, "data": data, name: value}
    with pytest.raises(nas.NasError) as error:
        nas.finalize(given.pop("study"), **given)
    assert error.value.field == name


def test_other_images_than_the_studys_are_refused(small_space, data, tmp_path):
    recipe = nas.Recipe(epochs=1, warmup_epochs=0.0, batch_size=16, precision="float32")
    study = nas.search(small_space, data=data, recipe=recipe, executor="inline", trials=1, out=tmp_path)
    other = from_arrays(np.ones((80, 8, 8, 3), np.uint8), np.arange(80) % 4)
    with pytest.raises(StudyError, match="other images") as error:
        nas.finalize(study, data=other)
    assert error.value.field == "data"
    assert not (tmp_path / "comparison.json").exists()
