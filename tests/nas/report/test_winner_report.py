import numpy as np
import pytest

from nas.data.description import DataDescription
from nas.data.loading import from_arrays
from nas.report.winner_report import chance_note
from nas.training.notes import few_steps


@pytest.mark.parametrize(
    ("accuracy", "counts", "candidates", "said"),
    [
        (0.5, (25, 25), 1, "no better than always answering with that class"),
        (0.3, (25, 25), 1, "no better than always answering with that class"),
        (0.9, (90, 10), 1, "no better than always answering with that class"),
        (0.52, (25, 25), 1, "chance may explain the rest (interval 0.39 to 0.65)"),
        (0.93, (90, 10), 1, "chance may explain the rest"),
        (0.65, (20, 20), 1, "chance may explain the rest"),
        (0.75, (10, 10), 30, "chance may explain the rest (interval 0.40 to 0.93, as the best of 30)"),
        (0.75, (10, 10), 1, ""),
        (0.99, (90, 10), 1, ""),
        (0.55, (5_000, 5_000), 100, ""),
        (1.0, (3, 3, 3), 6, ""),
        (0.5, (1, 1, 1, 1), 3, "chance may explain the rest"),
        (None, (5, 5), 1, ""),
        (0.5, (), 1, ""),
    ],
)
def test_an_accuracy_that_chance_may_explain_is_said_to_be_so(accuracy, counts, candidates, said):
    note = chance_note("accuracy", accuracy, counts, split="search", candidates=candidates)
    assert (said in note) if said else note == ""


def test_the_note_names_the_share_of_the_largest_class():
    note = chance_note("accuracy", 0.52, (10, 30, 10), split="search")
    assert note.startswith("accuracy 0.5200: the largest class alone is 0.6000 of the 50 search images")


def test_the_luckiest_of_many_untrained_networks_seldom_looks_good():
    rng = np.random.default_rng(0)
    images, candidates, studies = 60, 50, 400
    best = rng.binomial(images, 0.5, (studies, candidates)).max(axis=1) / images
    good = [not chance_note("accuracy", a, (30, 30), split="search", candidates=candidates) for a in best]
    assert np.mean(good) < 0.05
    assert np.mean([not chance_note("accuracy", a, (30, 30), split="search") for a in best]) > 0.3


def test_images_are_counted_by_split_and_class_and_read_back_from_a_study():
    data = from_arrays(np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4 // 3, name="x")
    counts = DataDescription.of(data).by_split()
    assert {split: sum(each) for split, each in counts.items()} == {"train": 25, "search": 7, "test": 8}
    assert counts["test"] == (6, 2)
    assert DataDescription.from_json(DataDescription.of(data).to_json()).by_split() == counts
    assert DataDescription.from_json("") is None


def test_few_steps_are_said_to_be_few():
    assert few_steps(30) == ""
    assert "only 1 step a training" in few_steps(1)
