import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score, recall_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional

from nas.data.loading import from_arrays
from nas.errors import DataError, RecipeError
from nas.training.accuracy import evaluate, gather
from nas.training.losses import LossOptions, chance_loss, class_weights, make_loss
from nas.trial import InfeasibleError

CPU = torch.device("cpu")
BALANCED = LossOptions(class_weights="balanced")


def classes_data(labels, classes=None):
    """Dark images; the labels of the training split repeat these."""
    labels = np.array(labels)
    data = from_arrays(np.zeros((100, 4, 4), np.uint8), np.arange(100) % 2, name="dark")
    count = classes or int(labels.max()) + 1
    train = replace(data.train, labels=np.resize(labels, len(data.train)))
    return replace(data, train=train, classes=tuple(f"class {index}" for index in range(count)))


def other_task(task, labels, **changes):
    """The same with labels of several columns in every split."""
    data = classes_data([0, 1])
    labels = np.array(labels, np.float32)
    parts = {
        name: replace(data.split(name), labels=np.resize(labels, (len(data.split(name)), labels.shape[1])))
        for name in ("train", "search", "test")
    }
    return replace(data, task=task, classes=tuple("abcdef"[: labels.shape[1]]), **parts, **changes)


def multilabel(labels):
    return other_task("multilabel", labels)


def numbers(labels):
    labels = np.array(labels, np.float32)
    mean, std = tuple(map(float, labels.mean(0))), tuple(map(float, labels.std(0)))
    return other_task("regression", labels, target_mean=mean, target_std=std)


def test_the_loss_of_classes_is_torchs_cross_entropy_with_its_smoothing():
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    loss = make_loss(classes_data([0, 1, 2]), LossOptions(label_smoothing=0.1), CPU)
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.equal(loss(logits, labels), expected)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = [0] * 7 + [1] * 2 + [2]
    data = classes_data(labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=data.train.labels)
    np.testing.assert_allclose(class_weights(data, BALANCED), expected)
    assert class_weights(data, LossOptions()) is None


def test_a_class_without_a_training_image_has_no_weight_and_does_not_change_the_others():
    data = classes_data([0, 0, 0, 2], classes=4)
    without = classes_data([0, 0, 0, 1])
    weights = class_weights(data, BALANCED)
    assert weights[1] == weights[3] == 0
    assert weights[[0, 2]] == pytest.approx(class_weights(without, BALANCED))


def test_balanced_weights_leave_the_smoothed_answer_of_a_frequent_class_the_better_one():
    data = classes_data([0] * 30 + [1])
    loss = make_loss(data, LossOptions(label_smoothing=0.1, class_weights="balanced"), CPU)
    right, wrong = torch.tensor([[2.0, -2.0]]), torch.tensor([[-2.0, 2.0]])
    label = torch.tensor([0])
    assert loss(right, label) < loss(wrong, label)
    torch_loss = nn.CrossEntropyLoss(
        weight=torch.tensor(class_weights(data, BALANCED), dtype=torch.float32), label_smoothing=0.1
    )
    assert torch_loss(right, label) > torch_loss(wrong, label), "the reason why torch's weights are not used"


def test_a_mixed_image_has_the_mean_weight_of_its_classes():
    smoothing = 0.1
    data = classes_data([0] * 9 + [1])
    loss = make_loss(data, LossOptions(label_smoothing=smoothing, class_weights="balanced"), CPU)
    logits = torch.tensor([[0.3, -0.4]])
    shares = torch.tensor([[0.7, 0.3]])
    mixed = loss(logits, shares * (1 - smoothing) + smoothing / 2)
    weight = float(shares[0] @ torch.tensor(class_weights(data, BALANCED), dtype=torch.float32))
    expected = functional.cross_entropy(logits, shares, label_smoothing=smoothing)
    assert float(mixed) == pytest.approx(weight * float(expected), rel=1e-5)


def test_the_loss_of_labels_is_torchs_with_its_positive_weights():
    data = multilabel([[1, 0], [0, 0], [0, 1], [0, 1]])
    logits, labels = torch.randn(6, 2), torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0], [0, 1], [1, 0]])
    weights = torch.tensor(class_weights(data, BALANCED), dtype=torch.float32)
    counts = data.train.labels.sum(0)
    np.testing.assert_allclose(weights, (len(data.train) - counts) / counts, rtol=1e-6)
    expected = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
    torch.testing.assert_close(make_loss(data, BALANCED, CPU)(logits, labels), expected)


def test_smoothed_labels_keep_half_of_the_smoothing():
    loss = make_loss(multilabel([[1, 0], [0, 1]]), LossOptions(label_smoothing=0.2), CPU)
    best = torch.tensor([0.9, 0.1]).logit()[None]
    around = [float(loss(best + step, torch.tensor([[1.0, 0.0]]))) for step in (-0.1, 0.0, 0.1)]
    assert around[1] == min(around)


def test_a_label_that_all_or_no_images_have_keeps_its_weight():
    assert class_weights(multilabel([[1, 0, 1], [1, 0, 0]]), BALANCED)[:2].tolist() == [1, 1]


@pytest.mark.parametrize(("kind", "expected"), [("squared", 4.0), ("huber", 1.5)])
def test_numbers_are_compared_in_deviations_of_the_training_split(kind, expected):
    data = numbers([[10.0, 1000.0], [30.0, 3000.0]])
    loss = make_loss(data, LossOptions(regression_loss=kind), CPU)
    mean, two_deviations = torch.zeros(1, 2), torch.tensor([[40.0, 4000.0]])
    assert float(loss(mean, two_deviations)) == pytest.approx(expected)


def test_numbers_have_no_classes_to_weight():
    with pytest.raises(RecipeError) as error:
        make_loss(numbers([[1.0], [2.0]]), BALANCED, CPU)
    assert error.value.field == "class_weights"


@pytest.mark.parametrize("options", [LossOptions(), BALANCED, LossOptions(label_smoothing=0.1)])
def test_the_chance_loss_of_labels_is_the_least_of_all_constant_outputs(options):
    data = multilabel([[1, 0], [0, 0], [0, 1], [0, 1]])
    loss = make_loss(data, options, CPU)
    labels = torch.tensor(data.train.labels)
    constant = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=100)

    def close():
        optimizer.zero_grad()
        value = loss(constant.expand(len(labels), 2), labels)
        value.backward()
        return value

    optimizer.step(close)
    assert chance_loss(data, options) == pytest.approx(close().item(), rel=1e-4)


def test_the_chance_loss_of_classes_and_numbers_is_that_of_outputs_of_zero():
    data = classes_data([0, 1, 2, 2])
    assert chance_loss(data, LossOptions(label_smoothing=0.1)) == pytest.approx(math.log(3))
    for kind in ("huber", "squared"):
        options = LossOptions(regression_loss=kind)
        spread = numbers(np.linspace(5, 9, 60)[:, None])
        labels = torch.tensor(spread.train.labels)
        zeros = torch.zeros(len(labels), 1)
        expected = float(make_loss(spread, options, CPU)(zeros, labels))
        assert chance_loss(spread, options) == pytest.approx(expected, rel=1e-5)


class Give(nn.Module):
    """Gives the rows of a table, one for each image, in order."""

    def __init__(self, table):
        super().__init__()
        self.table, self.place = torch.tensor(table, dtype=torch.float32), 0

    def forward(self, images):
        self.place += len(images)
        return self.table[self.place - len(images) : self.place]


def test_numbers_are_measured_in_the_labels_own_unit():
    data = numbers(np.linspace(10, 90, 100)[:, None])
    labels = data.search.labels
    given = (labels + 3 - data.target_mean[0]) / data.target_std[0]
    found = evaluate(Give(given), data, "search", ("r2", "rmse", "mae"), device="cpu", batch_size=7)
    assert found["rmse"] == pytest.approx(3, rel=1e-4)
    assert found["mae"] == pytest.approx(3, rel=1e-4)
    assert found["r2"] == pytest.approx(r2_score(labels, labels + 3), rel=1e-4)


def test_metrics_are_of_the_whole_split_and_not_means_over_batches():
    data = classes_data([0, 1, 2])
    labels = np.arange(len(data.search)) % 3 % 2
    data = replace(data, search=replace(data.search, labels=labels))
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(len(labels), 3))
    found = evaluate(Give(outputs), data, "search", ("balanced_accuracy",), device="cpu", batch_size=4)
    expected = recall_score(labels, outputs.argmax(1), average=None, labels=[0, 1]).mean()
    assert found == {"balanced_accuracy": pytest.approx(expected)}


def test_a_metric_of_another_task_is_refused():
    with pytest.raises(DataError) as error:
        evaluate(Give(np.zeros((99, 2))), multilabel([[1, 0], [0, 1]]), "search", ("accuracy",), device="cpu")
    assert error.value.field == "metric"


def test_outputs_that_are_not_finite_are_the_networks_fault():
    data = numbers([[1.0], [2.0]])
    with pytest.raises(InfeasibleError, match="numbers on the search split must be finite"):
        gather(
            Give(np.full((len(data.search), 1), np.nan)),
            data,
            "search",
            device=CPU,
            batch_size=8,
            precision="float32",
        )
