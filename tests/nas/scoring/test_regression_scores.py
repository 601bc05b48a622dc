"""Scores of numbers are those of scikit-learn, in the labels' own unit."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from nas.data.images import Pixels
from nas.scoring.outputs import Outputs
from nas.scoring.regression_scores import RegressionScores, score_numbers
from nas.task_metrics import measure


def make_scores(labels, values, columns=None) -> RegressionScores:
    labels, values = np.asarray(labels, np.float32), np.asarray(values, np.float64)
    outputs = Outputs(places=np.arange(len(labels)), logits=values.astype(np.float32), values=values)
    part = Pixels(images=np.zeros((len(labels), 1, 1, 1), np.uint8), labels=labels)
    return score_numbers(outputs, part, columns or [f"c{index}" for index in range(labels.shape[1])])


def random_case(count, width, *, seed, noise=0.5):
    rng = np.random.default_rng(seed)
    labels = (rng.normal(size=(count, width)) * 10.0 ** np.arange(width) + 3).astype(np.float32)
    return labels, labels + noise * rng.normal(size=(count, width)) * 10.0 ** np.arange(width) + 0.1


@pytest.mark.parametrize(("count", "width"), [(100, 1), (40, 3), (2, 2)])
def test_scores_are_scikit_learns(count, width):
    labels, values = random_case(count, width, seed=count)
    scores = make_scores(labels, values)
    for index, one in enumerate(scores.per_column):
        truth, found = labels[:, index].astype(float), values[:, index]
        assert one.r2 == pytest.approx(metrics.r2_score(truth, found))
        assert one.rmse == pytest.approx(metrics.root_mean_squared_error(truth, found))
        assert one.mae == pytest.approx(metrics.mean_absolute_error(truth, found))
        assert one.bias == pytest.approx((found - truth).mean())
        assert (one.mean, one.deviation) == pytest.approx((truth.mean(), truth.std()))
    names = ("r2", "rmse", "mae")
    expected = measure("regression", names, torch.from_numpy(values), torch.from_numpy(labels))
    for name in names:
        mean = np.mean([getattr(one, name) for one in scores.per_column])
        assert getattr(scores, name) == pytest.approx(mean, rel=1e-5)
        assert getattr(scores, name) == pytest.approx(expected[name])


def test_predicting_the_mean_has_an_r2_of_zero_and_its_rmse_is_the_deviation():
    labels, _ = random_case(50, 2, seed=1)
    scores = make_scores(labels, np.tile(labels.astype(float).mean(0), (50, 1)))
    for one in scores.per_column:
        assert one.r2 == pytest.approx(0, abs=1e-9)
        assert one.rmse == pytest.approx(one.deviation)
    doubts = scores.doubts()
    assert any("no better than by the mean" in one for one in doubts)
    assert any("every image is predicted to have 'c1' of about" in one for one in doubts)


def test_good_numbers_are_not_doubted_and_the_one_bad_column_is_named():
    labels, values = random_case(60, 2, seed=2, noise=0.1)
    assert make_scores(labels, values).doubts() == ()
    values[:, 1] = -values[:, 1]
    (doubt,) = make_scores(labels, values, ["angle", "price"]).doubts()
    assert "'price'" in doubt
    assert "'angle'" not in doubt


def test_column_of_equal_labels_has_no_r2_and_is_left_out_of_the_mean():
    labels, values = random_case(30, 2, seed=3)
    labels[:, 1] = 7
    scores = make_scores(labels, values)
    assert scores.per_column[1].r2 is None
    assert scores.r2 == pytest.approx(scores.per_column[0].r2)
    alone = make_scores(labels[:, 1:], values[:, 1:])
    assert alone.r2 is None
    assert any("there is no R2" in one for one in alone.doubts())


def test_one_image_has_errors_but_no_r2():
    scores = make_scores([[2.0]], [[5.0]])
    assert (scores.r2, scores.rmse, scores.mae, scores.per_column[0].bias) == (None, 3.0, 3.0, 3.0)


def test_residuals_are_compared_in_deviations_of_their_column():
    labels = np.array([[0, 0], [1, 1000], [2, 2000]], float)
    values = labels + np.array([[0.9, 0], [0, 100], [0, -500]])
    scores = make_scores(labels, values, ["small", "large"])
    found = [(one.name, one.column, one.value) for one in scores.residuals(3)]
    assert found == [
        ("image 0", "small", pytest.approx(0.9)),
        ("image 2", "large", -500),
        ("image 1", "large", 100),
    ]
    assert (scores.image(2).labels, scores.image(2).predictions) == ((2.0, 2000.0), (2.0, 1500.0))


def test_interval_narrows_with_the_root_of_the_images_and_holds_the_score():
    widths = []
    for count in (100, 1600):
        scores = make_scores(*random_case(count, 2, seed=5))
        low, high = scores.interval
        assert low < scores.r2 < high
        widths.append(high - low)
    assert 2 < widths[0] / widths[1] < 8
    assert make_scores([[2.0]], [[5.0]]).interval is None
