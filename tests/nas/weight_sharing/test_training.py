"""A supernet is trained, stopped, continued, stored, read and searched in."""

import json
import pickle
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nas
from nas.folders import SUPERNET as SUPERNET_FILE
from nas.full_training.run import Unwatched, locked
from nas.training.accuracy import evaluate_accuracy
from nas.trial import Candidate
from nas.weight_sharing.calibration import Calibration
from nas.weight_sharing.paths import SAMPLINGS, extreme_networks
from nas.weight_sharing.recipe import NOT_OF_SUPERNETS, SUPERNET
from nas.weight_sharing.stored import WEIGHTS, read_supernet
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, build, choice

FAST = nas.TrainOptions(device="cpu")


def make_space(name="shared", resolution=8, *, kernel_sizes=(3, 5), widest=2, deepest=2, stages=1):
    op = MBConv(kernel_size=choice(*kernel_sizes), expand_ratio=choice(1, widest))
    template = Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=op, channels=choice(8, 16), repeats=choice(1, deepest)),) * stages,
        head=Head(channels=16, dropout=0.0),
        resolution=resolution,
        num_classes=3,
        norm_momentum=0.1,
    )
    return SearchSpace(template, name=name)


def make_data(count=180, *, seed=0, side=8):
    """Three classes, by the channel that is brightest."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 160, (count, side, side, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 80
    return nas.from_arrays(images, labels, name=f"images {seed}")


SPACE, DATA = make_space(), make_data()

DEEP = make_space("deep", widest=6, deepest=4, stages=2)
"""Its networks differ much in depth and width, so that their statistics do."""


def train(out, **changed):
    asked = {"space": SPACE, "data": DATA, "epochs": 2, "options": FAST} | changed
    return nas.train_supernet(out=out, **asked)


class Stopped(Unwatched):
    """Sends a signal at a step."""

    def __init__(self, step):
        self.step = step

    def on_progress(self, progress):
        if progress.step == self.step and progress.row is None:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("supernet") / "net"
    train(out, epochs=4)
    return out


@pytest.fixture(scope="module")
def shared(trained):
    return nas.SharedWeights(trained, DATA, space=SPACE, device="cpu")


# Training


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not_to_the_bit(tmp_path, sampling):
    expected = train(tmp_path / "whole", epochs=1, sampling=sampling).state_dict()
    cut = {"epochs": 1, "sampling": sampling}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", **cut, options=replace(FAST, checkpoint_steps=1), watcher=Stopped(3))
    with pytest.raises(nas.SupernetError, match="its training has not ended"):
        read_supernet(tmp_path / "cut", SPACE)
    found = train(tmp_path / "cut", **cut).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_finished_training_is_read_again_and_another_seed_is_refused(trained):
    before = load_file(trained / WEIGHTS)
    again = train(trained, epochs=4).state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in again.items())
    with pytest.raises(nas.NasError, match="seed"):
        train(trained, epochs=4, seed=1)


def test_two_processes_do_not_train_one_supernet(tmp_path):
    with locked(tmp_path / "net"), pytest.raises(nas.NasError, match="another process trains"):
        train(tmp_path / "net")


def running_statistics(supernet, passes=20):
    """The statistics that a supernet would have kept: of whatever networks came before, by their names."""
    space = supernet.space
    _, largest = extreme_networks(space)
    kept = {name: one for name, one in supernet.materialise(largest).items() if "running" in name}
    mean, std = (torch.tensor(one)[:, None, None] for one in (DATA.mean, DATA.std))
    images = (torch.tensor(DATA.train.images[:32]) / 255 - mean) / std
    for tokens in space.sample_many(np.random.default_rng(0), passes).tolist():
        module = build(space.decode(tokens)).train()
        module.load_state_dict(slices(supernet, tokens, kept))
        with torch.no_grad():
            module(images)
        for name, one in module.state_dict().items():
            if name in kept:
                kept[name][: len(one)] = one
    return kept


def slices(supernet, tokens, statistics):
    """The weights of a network, with slices of these statistics too."""
    weights = supernet.materialise(tokens)
    return {
        name: statistics[name][: len(one)] if name in statistics else one for name, one in weights.items()
    }


def test_recalibrated_networks_are_far_better_than_with_running_statistics(tmp_path):
    supernet = train(tmp_path / "net", space=DEEP, sampling="uniform", epochs=6)
    calibration, kept = Calibration(DATA, torch.device("cpu")), running_statistics(supernet)
    accuracies = []
    for tokens in DEEP.sample_many(np.random.default_rng(5), 3).tolist():
        running = build(DEEP.decode(tokens))
        running.load_state_dict(slices(supernet, tokens, kept))
        modules = calibration.cut(supernet, tokens), running
        accuracies.append([evaluate_accuracy(one, DATA, "search", device="cpu") for one in modules])
    recalibrated, running = np.mean(accuracies, axis=0)
    assert recalibrated > running + 0.3


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"sampling": "greedy"}, "sampling", "one of uniform, fair, sandwich"),
        ({"recipe": SUPERNET.changed(ema_decay=0.9)}, "ema_decay", "measured with the last weights"),
        ({"calibration_images": 1_000}, "calibration_images", "1000: each network's statistics"),
        ({"data": make_data(36)}, "calibration_images", "of which images 0 has"),
        ({"kernels": "all"}, "kernels", "own or cropped"),
        ({"options": replace(FAST, is_compiled=True)}, "is_compiled", "other networks"),
        ({"random_paths": -1}, "random_paths", "random_paths"),
        ({"calibration_images": "100"}, "calibration_images", "for an integer, but got"),
        ({"calibration_images": 100.0}, "calibration_images", "for an integer, but got"),
        ({"options": {"device": "cpu"}}, "options", "must be TrainOptions"),
        ({"recipe": 3}, "recipe", "must be FullRecipe"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, changed, field, words):
    with pytest.raises(nas.NasError, match=words) as error:
        train(tmp_path / "net", **changed)
    assert error.value.field == field
    assert not (tmp_path / "net").exists()


def test_every_field_that_means_nothing_is_a_field_of_a_recipe():
    assert set(NOT_OF_SUPERNETS) <= set(nas.FullRecipe.__dataclass_fields__)


# Reading


def test_a_supernet_of_another_space_or_resolution_is_refused(trained):
    for space in (make_space(resolution=16), SearchSpace(replace(SPACE.template, num_classes=4))):
        with pytest.raises(nas.SupernetError, match="must be of the space"):
            read_supernet(trained, space)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (make_data(seed=1), "the images must be those"),
        (replace(DATA, split_fingerprint="0" * 16), "the split must be those"),
        (replace(DATA, std=(0.5, 0.5, 0.5)), "the normalisation must be those"),
    ],
)
def test_other_images_splits_and_normalisations_are_refused(trained, data, words):
    with pytest.raises(nas.SupernetError, match=words) as error:
        nas.SharedWeights(trained, data, space=SPACE)
    assert error.value.field == "data"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"supernet": {"weights": 1}}, "must be Supernet or Path or str"),
        ({"data": "photos"}, "load it with nas.load_data"),
        ({"space": "small"}, "must be SearchSpace"),
        ({"calibration_images": "100"}, "for an integer"),
    ],
)
def test_an_evaluator_refuses_arguments_of_other_types(trained, changed, words):
    asked = {"supernet": trained, "data": DATA, "space": SPACE} | changed
    with pytest.raises(nas.NasError, match=words) as error:
        nas.SharedWeights(**asked)
    assert error.value.field == next(iter(changed))


def copied(trained, folder):
    folder.mkdir()
    for name in (WEIGHTS, SUPERNET_FILE):
        (folder / name).write_bytes((trained / name).read_bytes())
    return folder


def cut_short(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def without_weights(folder):
    (folder / WEIGHTS).unlink()


def with_changed_weights(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / WEIGHTS)


def with_half_the_facts(folder):
    (folder / SUPERNET_FILE).write_text((folder / SUPERNET_FILE).read_text()[:100])


def with_facts_of_another_version(folder):
    facts = json.loads((folder / SUPERNET_FILE).read_text())
    (folder / SUPERNET_FILE).write_text(json.dumps(facts | {"version": 99}))


def with_facts_of_other_types(folder):
    facts = json.loads((folder / SUPERNET_FILE).read_text())
    (folder / SUPERNET_FILE).write_text(json.dumps(facts | {"measured": {"metric": 1}}))


def without_facts(folder):
    (folder / SUPERNET_FILE).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        without_weights,
        with_changed_weights,
        with_half_the_facts,
        with_facts_of_another_version,
        with_facts_of_other_types,
        without_facts,
    ],
)
def test_a_damaged_supernet_is_refused_with_what_to_do(trained, tmp_path, damage):
    folder = copied(trained, tmp_path / "net")
    read_supernet(folder, SPACE)
    damage(folder)
    with pytest.raises(nas.SupernetError, match=r"repeat the command|train one with nas supernet"):
        read_supernet(folder, SPACE)


# Searching


def test_a_search_over_shared_weights_finds_what_its_evaluator_measures(shared, tmp_path):
    search = nas.Search(SPACE, evaluator=shared, controller="random", budget=nas.Budget(trials=6))
    study = search.run(tmp_path / "study", executor=nas.InlineExecutor())
    assert len(study.completed) == 6
    best = study.best
    assert best.accuracy == max(trial.accuracy for trial in study.trials)
    assert best.has_shared_weights
    assert best.measured_on == "search split, shared weights"
    with pytest.raises(nas.StudyError, match="nas train"):
        best.export(tmp_path / "bundle")
    replaced = replace(search, budget=nas.Budget(trials=8))
    assert len(replaced.run(tmp_path / "study", executor=nas.InlineExecutor()).completed) == 8


def test_a_pickled_evaluator_measures_the_same(shared, tmp_path):
    other = pickle.loads(pickle.dumps(shared))
    assert other.fingerprint == shared.fingerprint
    accuracies = []
    for name, one in (("a", shared), ("b", other)):
        search = nas.Search(SPACE, evaluator=one, controller="random", budget=nas.Budget(trials=2))
        study = search.run(tmp_path / name, executor=nas.InlineExecutor())
        accuracies.append([trial.accuracy for trial in study.trials])
    assert accuracies[0] == accuracies[1]


def test_an_objective_of_training_memory_is_refused_before_anything_runs(shared):
    search = nas.Search(SPACE, evaluator=shared, objective="accuracy, memory <= 2GiB")
    with pytest.raises(nas.ObjectiveError, match="needs peak_memory_bytes"):
        search.check()


def test_a_choice_of_resolutions_is_trained_on_images_of_the_largest(tmp_path):
    space = SearchSpace(replace(SPACE.template, resolution=choice(8, choice(12, 6))), name="two sizes")
    rng = np.random.default_rng(0)
    pack = tmp_path / "images.npz"
    np.savez(
        pack, train_images=rng.integers(0, 255, (90, 16, 16, 3), np.uint8), train_labels=np.arange(90) % 3
    )
    train(tmp_path / "net", space=space, data=pack, epochs=1, sampling="uniform")
    assert nas.SharedWeights(tmp_path / "net", nas.load_data(str(pack), resolution=12), space=space)


def test_a_choice_of_resolutions_is_refused_where_each_network_is_trained_by_itself(tmp_path):
    space = SearchSpace(replace(SPACE.template, resolution=choice(8, 6)), name="two sizes")
    with pytest.raises(nas.DataError, match=r"images of one size, but .* resolution=choice\(8, 6\)"):
        nas.search(space, data=DATA, trials=1, executor="inline", out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_file_can_change_the_recipe_of_supernets(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "supernet"\nlearning_rate = 0.05\n')
    asked = nas.SupernetTraining(space=SPACE, data=DATA, recipe=tmp_path / "mine.toml")
    recipe = asked.prepare(tmp_path / "net", FAST, Unwatched()).recipe
    assert recipe == replace(SUPERNET, name="mine", learning_rate=0.05)
    asked = replace(asked, recipe="supernett")
    with pytest.raises(nas.RecipeError, match="did you mean supernet"):
        asked.prepare(tmp_path / "net", FAST, Unwatched())


def test_a_search_in_a_folder_is_the_same_as_one_in_its_supernet_in_memory(trained, shared, tmp_path):
    in_memory = nas.SharedWeights(read_supernet(trained, SPACE)[0], DATA, device="cpu")
    assert in_memory.fingerprint == shared.fingerprint
    for trials, evaluator in ((1, shared), (2, in_memory)):
        study = nas.search(SPACE, evaluator=evaluator, trials=trials, executor="inline", out=tmp_path)
    assert len(study.completed) == 2


@pytest.mark.parametrize("has_probe", [False, True])
def test_a_search_of_another_space_is_refused_before_anything_is_written(shared, tmp_path, has_probe):
    """Its first network is one of the supernet's; others are not."""
    space = make_space("another", kernel_sizes=(3, 7))
    evaluator = nas.Probed(shared, nas.LatencyProbe()) if has_probe else shared
    with pytest.raises(nas.SupernetError, match=r"space another \(\w+\), but is of shared \(") as error:
        nas.search(space, evaluator=evaluator, trials=1, executor="inline", out=tmp_path / "study")
    assert error.value.field == "space"
    assert "train one with nas supernet" in str(error.value)
    assert not (tmp_path / "study").exists()


def test_a_network_is_measured_as_such_whatever_its_tokens_mean_in_the_searched_space(shared):
    other, tokens = make_space(kernel_sizes=(5, 3)), (1,) * len(SPACE.cardinalities)
    accuracies = [
        shared.evaluate(Candidate(job=nas.Job(trial=0, attempt=1, tokens=given, seed=0), network=network))
        .metrics[0]
        .value
        for given, network in (
            (other.encode(SPACE.decode(tokens)), SPACE.decode(tokens)),
            (tokens, SPACE.decode(tokens)),
            (tokens, other.decode(tokens)),
        )
    ]
    assert accuracies[0] == accuracies[1] != accuracies[2]


def test_the_usual_recipe_has_a_name_and_those_of_single_networks_are_refused(tmp_path):
    for recipe in ("supernet", None):
        asked = nas.SupernetTraining(space=SPACE, data=DATA, recipe=recipe)
        assert asked.prepare(tmp_path / "net", FAST, Unwatched()).recipe == SUPERNET
    with pytest.raises(nas.RecipeError, match="the built-in ones are for a single network"):
        nas.SupernetTraining(space=SPACE, data=DATA, recipe="small").prepare(
            tmp_path / "net", FAST, Unwatched()
        )
