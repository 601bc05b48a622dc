"""Scores are those of scikit-learn, and say what they are over."""

import warnings

import numpy as np
import pytest
from sklearn import metrics

from nas.data.images import Pixels
from nas.scoring import scores as scores_module
from nas.scoring.calibration import BINS
from nas.scoring.outputs import Outputs
from nas.scoring.scores import Scores, score, score_classes
from nas.scoring.top_classes import TopClasses
from nas.statistics import wilson_interval


def make_scores(labels, probabilities, classes=None) -> Scores:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, float)
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    predictions = TopClasses(
        places=np.arange(len(labels)),
        classes=top,
        probabilities=np.take_along_axis(probabilities, top, axis=1),
    )
    part = Pixels(images=np.zeros((len(labels), 1, 1, 1), np.uint8), labels=labels)
    return score(predictions, part, classes or [f"c{index}" for index in range(probabilities.shape[1])])


def random_case(count, classes, *, seed, present=None, signal=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, present or classes, size=count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += signal
    probabilities = np.exp(logits)
    return labels, probabilities / probabilities.sum(1, keepdims=True)


CASES = [
    {"count": 300, "classes": 7, "seed": 0},
    {"count": 40, "classes": 3, "seed": 1},
    {"count": 50, "classes": 12, "seed": 2, "present": 5},
    {"count": 25, "classes": 2, "seed": 3, "present": 1},
    {"count": 1, "classes": 6, "seed": 4},
]


@pytest.mark.parametrize("case", CASES)
def test_scores_are_scikit_learns(case):
    labels, probabilities = random_case(**case)
    scores = make_scores(labels, probabilities)
    predicted = probabilities.argmax(1)
    every = list(range(case["classes"]))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=np.nan
    )
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are predicted, but not there
        assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert (scores.confusion == metrics.confusion_matrix(labels, predicted, labels=every)).all()
    assert [one.support for one in scores.per_class] == support.tolist()
    for one, *expected in zip(scores.per_class, precision, recall, f1, strict=True):
        assert (one.precision is None) == np.isnan(expected[0])
        assert one.precision is None or one.precision == pytest.approx(expected[0])
        assert (one.recall is None) == (one.support == 0)
        if one.support:
            assert [one.recall, one.f1] == pytest.approx(expected[1:])
    present = np.unique(labels)
    assert scores.macro_f1 == pytest.approx(
        metrics.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )


def test_top5_is_scikit_learns_and_absent_for_at_most_five_classes():
    labels, probabilities = random_case(300, 9, seed=5, signal=0.5)
    expected = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=range(9))
    assert make_scores(labels, probabilities).top5 == pytest.approx(expected)
    assert make_scores(*random_case(30, 5, seed=6)).top5 is None


def test_calibration_error_is_the_mean_gap_of_fifteen_bins_weighted_by_images():
    labels, probabilities = random_case(500, 4, seed=7)
    scores = make_scores(labels, probabilities)
    confidence, is_right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for place in range(BINS):
        chosen = (confidence > place / BINS) & (confidence <= (place + 1) / BINS)
        if chosen.any():
            expected += chosen.mean() * abs(confidence[chosen].mean() - is_right[chosen].mean())
    assert scores.calibration_error == pytest.approx(expected)
    parts = [one for one in scores.reliability if one.images]
    from_bins = sum(one.images / 500 * abs(one.confidence - one.accuracy) for one in parts)
    assert from_bins == pytest.approx(expected)
    assert sum(one.images for one in scores.reliability) == 500


def test_interval_is_wilsons():
    scores = make_scores(*random_case(60, 3, seed=8))
    assert scores.interval == wilson_interval(scores.right, 60)
    assert scores.accuracy == scores.right / 60


def test_mistakes_are_the_wrong_predictions_by_probability():
    scores = make_scores([0, 0, 1, 1], [[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.2, 0.8]], ["a", "b"])
    found = [(one.name, one.label, one.prediction, one.probability) for one in scores.mistakes()]
    assert found == [("image 2", "b", "a", 0.9), ("image 1", "a", "b", 0.7)]
    assert scores.mistakes(1) == scores.mistakes()[:1]


def test_confusions_are_counted_by_true_class_and_prediction():
    labels, predictions = [0, 0, 0, 1, 2, 2], [1, 1, 0, 1, 0, 2]
    scores = make_scores(labels, np.eye(3)[predictions], ["a", "b", "c"])
    assert scores.confusions() == (("a", "b", 2), ("c", "a", 1))


@pytest.mark.parametrize(
    ("labels", "predictions", "match"),
    [
        ([0, 1] * 50, [0, 1, 1, 0] * 25, "not above chance, 1/2 = 0.5000"),
        ([0] * 90 + [1] * 10, [0] * 100, "not above 0.9000, the share of 'c0'"),
        ([0] * 90 + [1] * 10, [0] * 100, "every image is predicted to be 'c0'"),
    ],
)
def test_accuracy_that_needs_no_look_at_the_images_is_doubted(labels, predictions, match):
    doubts = make_scores(labels, np.eye(2)[predictions]).doubts()
    assert any(match in doubt for doubt in doubts)


def test_good_accuracy_is_not_doubted():
    labels = [0, 1, 2] * 30
    assert make_scores(labels, np.eye(3)[labels]).doubts() == ()


def score_logits(labels, logits, *, batch=64):
    labels, logits = np.asarray(labels), np.asarray(logits, np.float32)
    powers = np.exp(logits.astype(float))
    values = powers / powers.sum(1, keepdims=True)
    batches = (
        Outputs(
            places=np.arange(len(labels))[start : start + batch],
            logits=logits[start : start + batch],
            values=values[start : start + batch],
        )
        for start in range(0, len(labels), batch)
    )
    part = Pixels(images=np.zeros((len(labels), 1, 1, 1), np.uint8), labels=labels)
    return score_classes(batches, part, [f"c{index}" for index in range(logits.shape[1])])


def test_auroc_is_scikit_learns_over_all_batches():
    labels, probabilities = random_case(200, 8, seed=9)
    scores = score_logits(labels, np.log(probabilities))
    expected = metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert scores.auroc == pytest.approx(expected, abs=1e-5)
    assert scores.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=5))
    assert scores.accuracy == metrics.accuracy_score(labels, probabilities.argmax(1))


def test_auroc_is_none_for_images_of_one_class_and_where_logits_are_too_many_to_keep(monkeypatch):
    labels, probabilities = random_case(20, 3, seed=10)
    assert score_logits(np.zeros(20, int), np.log(probabilities)).auroc is None
    kept = score_logits(labels, np.log(probabilities))
    monkeypatch.setattr(scores_module, "MOST_LOGITS", 59)
    streamed = score_logits(labels, np.log(probabilities), batch=7)
    assert kept.auroc is not None
    assert streamed.auroc is None
    assert streamed.accuracy == kept.accuracy
    assert np.array_equal(streamed.predictions.classes, kept.predictions.classes)
