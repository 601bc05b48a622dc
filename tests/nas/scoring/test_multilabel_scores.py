"""Scores of labels are those of scikit-learn, and say what they are over."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from nas.data.images import Pixels
from nas.scoring.multilabel_scores import MultilabelScores, score_labels
from nas.scoring.outputs import Outputs
from nas.task_metrics import measure


def make_scores(labels, logits, classes=None) -> MultilabelScores:
    labels, logits = np.asarray(labels, np.float32), np.asarray(logits, np.float32)
    outputs = Outputs(
        places=np.arange(len(labels)), logits=logits, values=1 / (1 + np.exp(-logits.astype(np.float64)))
    )
    part = Pixels(images=np.zeros((len(labels), 1, 1, 1), np.uint8), labels=labels)
    return score_labels(outputs, part, classes or [f"l{index}" for index in range(labels.shape[1])])


def random_case(count, width, *, seed, share=0.3, signal=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.random((count, width)) < share
    return labels, rng.normal(size=(count, width)) + signal * (labels - 0.5)


CASES = [
    {"count": 200, "width": 6, "seed": 0},
    {"count": 50, "width": 1, "seed": 1},
    {"count": 30, "width": 40, "seed": 2, "share": 0.03},
    {"count": 1, "width": 4, "seed": 3, "share": 0.5},
]


@pytest.mark.parametrize("case", CASES)
def test_scores_are_scikit_learns(case):
    labels, logits = random_case(**case)
    scores = make_scores(labels, logits)
    predicted = logits >= 0
    has = labels.any(0)
    expected = metrics.average_precision_score(labels[:, has], logits[:, has], average="macro")
    assert scores.mean_average_precision == pytest.approx(expected, abs=1e-6)
    assert scores.micro_f1 == pytest.approx(
        metrics.f1_score(labels.ravel(), predicted.ravel(), zero_division=0), abs=1e-6
    )
    assert scores.exact_match == pytest.approx((labels == predicted).all(1).mean())
    assert scores.hamming_loss == pytest.approx(metrics.hamming_loss(labels.ravel(), predicted.ravel()))
    assert scores.wrong == (labels != predicted).sum()
    for index, one in enumerate(scores.per_label):
        truth, found = labels[:, index], predicted[:, index]
        assert one.support == truth.sum()
        assert (one.precision is None) == (not found.any())
        assert (
            (one.recall is None) == (one.f1 is None) == (one.average_precision is None) == (not truth.any())
        )
        assert (one.auroc is None) == (truth.all() or not truth.any())
        if one.auroc is not None:
            assert one.auroc == pytest.approx(metrics.roc_auc_score(truth, logits[:, index]), abs=1e-6)
        if one.precision is not None:
            assert one.precision == pytest.approx(metrics.precision_score(truth, found), abs=1e-6)
        if one.recall is not None:
            assert one.recall == pytest.approx(metrics.recall_score(truth, found), abs=1e-6)
            assert one.f1 == pytest.approx(metrics.f1_score(truth, found), abs=1e-6)
            expected = metrics.average_precision_score(truth, logits[:, index])
            assert one.average_precision == pytest.approx(expected, abs=1e-6)


def test_averages_are_means_of_the_labels_and_what_a_training_maximises():
    labels, logits = random_case(80, 5, seed=4)
    scores = make_scores(labels, logits)
    names = ("mean_average_precision", "macro_f1", "auroc")
    found = measure("multilabel", names, torch.from_numpy(logits), torch.from_numpy(labels))
    for name, key in zip(names, ("average_precision", "f1", "auroc"), strict=True):
        mean = np.mean([getattr(one, key) for one in scores.per_label])
        assert getattr(scores, name) == pytest.approx(mean, abs=1e-6) == pytest.approx(found[name], abs=1e-6)


def test_calibration_error_is_that_of_all_labels_of_all_images():
    labels, logits = random_case(100, 5, seed=5)
    scores = make_scores(labels, logits)
    bins = [one for one in scores.reliability if one.images]
    assert sum(one.images for one in bins) == 500
    expected = sum(one.images / 500 * abs(one.confidence - one.accuracy) for one in bins)
    assert scores.calibration_error == pytest.approx(expected, abs=1e-6)


def test_mistakes_are_the_wrong_labels_farthest_from_the_truth():
    scores = make_scores([[1, 0], [0, 1]], [[-1, 3], [-2, -0.5]], ["a", "b"])
    found = [(one.name, one.label, one.is_present) for one in scores.mistakes()]
    assert found == [("image 0", "b", False), ("image 0", "a", True), ("image 1", "b", True)]
    assert scores.mistakes(1) == scores.mistakes()[:1]
    assert scores.mistakes()[0].probability == pytest.approx(1 / (1 + np.exp(-3)))


def test_image_has_its_labels_in_the_order_of_the_network():
    one = make_scores([[1, 0, 1]], [[2, 2, -2]], ["z", "a", "b"]).image(0)
    assert (one.labels, one.predictions, one.is_right) == (("z", "b"), ("z", "a"), False)


def test_probability_of_exactly_one_half_counts_as_predicted():
    assert make_scores([[1.0]], [[0.0]]).image(0).predictions == ("l0",)


@pytest.mark.parametrize(
    ("labels", "logits", "match"),
    [
        (random_case(100, 3, seed=6)[0], random_case(100, 3, seed=7)[1], "not above chance"),
        ([[1, 0], [0, 1]] * 20, [[2, -2]] * 40, "every image is predicted to have l0"),
        ([[1, 0], [0, 1]] * 20, [[-2, -2]] * 40, "every image is predicted to have no label"),
        ([[0, 0]] * 5, [[2, -2]] * 5, "no image has a label"),
    ],
)
def test_labels_that_need_no_look_at_the_images_are_doubted(labels, logits, match):
    assert any(match in doubt for doubt in make_scores(labels, logits).doubts())


def test_good_labels_are_not_doubted_and_chance_is_the_label_frequency():
    labels, logits = random_case(100, 3, seed=8, signal=4)
    scores = make_scores(labels, logits)
    assert scores.doubts() == ()
    assert scores.label_frequency == pytest.approx(labels.mean(0).mean())


def test_random_order_reaches_chance_and_is_doubted_nearly_always(monkeypatch):
    monkeypatch.setattr("nas.task_metrics.RESAMPLES", 2)  # the interval is not looked at
    doubted = 0
    for seed in range(40):
        labels, logits = random_case(60, 4, seed=seed, signal=0)
        doubted += bool(make_scores(labels, logits).doubts())
    assert doubted >= 37


def test_images_without_any_label_have_no_averages_but_a_hamming_loss():
    scores = make_scores(np.zeros((4, 2)), [[1, -1]] * 4)
    assert (scores.mean_average_precision, scores.macro_f1, scores.micro_f1, scores.auroc) == (None,) * 4
    assert (scores.hamming_loss, scores.exact_match) == (0.5, 0)
    assert dict(scores.headline)["mean average precision"] == "none"


def test_interval_narrows_with_the_root_of_the_images_and_holds_the_score():
    widths = []
    for count in (100, 1600):
        scores = make_scores(*random_case(count, 3, seed=6))
        low, high = scores.interval
        assert low < scores.mean_average_precision < high
        widths.append(high - low)
    assert 2 < widths[0] / widths[1] < 8
    assert make_scores(np.zeros((4, 2)), np.ones((4, 2))).interval is None
