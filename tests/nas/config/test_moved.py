import json
import shutil
import sqlite3
import sys
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

import nas
from nas.cli.main import main, parse
from nas.config.prepared import prepare, read_enqueued
from nas.config.request import RANDOMS, SEEDS, request_of
from nas.config.settings import Settings
from nas.data.description import DataDescription
from nas.errors import NasError, StudyError
from nas.study.study import open_study
from nas.study.study_folder import FILE_NAME
from nas.training.recipe import Recipe

SPACE_FILE = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def space(resolution, num_classes, in_channels=3):
    stage = Stage(op=MBConv(expand_ratio=choice(1, 2, WIDEST)), channels=choice(8, 16), stride=2)
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=(stage,), head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="tiny",
    )
"""


def write_photos(folder, counts):
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", {"cat": 40, "dog": 30, "owl": 20})


class Measured:
    """Trains on images as ours does, as far as a study can tell, and measures by a formula."""

    def __init__(self, data, recipe=None):
        self.data = data
        self.recipe = recipe or Recipe()

    @property
    def fingerprint(self):
        return f"{self.recipe.fingerprint} {self.data.fingerprint} {self.data.split_fingerprint}"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        accuracy = nas.Metric(name="accuracy", value=0.5 + candidate.job.trial / 100, unit="fraction")
        return nas.Evaluation(metrics=(accuracy,))


def search(space, out, data, *, trials=2, recipe=None, **options):
    given = {name: options.pop(name) for name in ("settings", "warm_start") if name in options}
    described = nas.Search(
        space,
        evaluator=Measured(data, recipe),
        controller="random",
        budget=nas.Budget(trials=trials),
        **options,
    )
    return described.run(out, executor=nas.InlineExecutor(), **given)


def without(folder, *names):
    for name in names:
        (folder / name).unlink()


def test_a_folder_of_images_that_was_moved_and_renamed_continues_the_study(tmp_path, small_space, photos):
    search(small_space, tmp_path / "a", nas.load_data(photos))
    shutil.copytree(photos, tmp_path / "elsewhere" / "other name")
    moved = nas.load_data(tmp_path / "elsewhere" / "other name")
    assert len(search(small_space, tmp_path / "a", moved, trials=4).trials) == 4
    warm = search(small_space, tmp_path / "b", moved, warm_start=open_study(tmp_path / "a"))
    assert len(warm.trials) == 2


def changed_images(folder):
    without(folder / "cat", *(f"{index:03d}.png" for index in range(12)))


def renamed_class(folder):
    (folder / "owl").rename(folder / "hen")


def other_pixels(folder):
    (folder / "cat" / "000.png").write_bytes((folder / "dog" / "000.png").read_bytes() + b"0")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (changed_images, {}, "the images differ now: 12 images fewer in class 'cat' (28, before 40)"),
        (renamed_class, {}, "no class 'owl'; a new class 'hen'"),
        (other_pixels, {}, "as many of each class, but with other names, sizes or pixels"),
        (None, {"resolution": 16}, "images of 16 pixels, before of 8 (--resolution)"),
        (None, {"seed": 1}, "split otherwise now: as many images in each split, but other ones: another"),
        (None, {"search_fraction": 0.4}, "search images, before"),
    ],
)  # fmt: skip
def test_what_differs_in_the_images_is_said_in_words(tmp_path, small_space, photos, change, options, words):
    earlier = search(small_space, tmp_path / "a", nas.load_data(photos))
    copy = shutil.copytree(photos, tmp_path / "photos")
    if change is not None:
        change(copy)
    data = nas.load_data(copy, **options)
    for use in (
        lambda: search(small_space, tmp_path / "a", data),
        lambda: search(small_space, tmp_path / "b", data, warm_start=earlier),
    ):
        with pytest.raises(StudyError) as error:
            use()
        assert words in str(error.value)
        for fingerprint in (data.fingerprint, data.split_fingerprint, earlier.identity.data):
            assert fingerprint not in str(error.value)
    assert len(search(small_space, tmp_path / "a", nas.load_data(photos), trials=3).trials) == 3


def test_another_recipe_is_said_in_words(tmp_path, small_space, photos):
    data = nas.load_data(photos)
    search(small_space, tmp_path, data)
    with pytest.raises(StudyError, match=r"the recipe differs: epochs is 5.* there, 6.* here"):
        search(small_space, tmp_path, data, recipe=Recipe(epochs=6))


def test_a_study_of_an_earlier_version_says_what_it_knows_of_its_images(tmp_path, small_space, photos):
    search(small_space, tmp_path / "a", nas.load_data(photos))
    with closing(sqlite3.connect(tmp_path / "a" / FILE_NAME)) as database, database:
        database.execute("ALTER TABLE study DROP COLUMN data_json")
        database.execute("DROP TABLE driver")
        database.execute("DROP TABLE step")
        database.execute("DROP TABLE identity_copy")
        for column in ("steps", "asked"):
            database.execute(f"ALTER TABLE controller DROP COLUMN {column}")
        for column in ("proposed_seal", "finished_seal"):
            database.execute(f"ALTER TABLE trial DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 3")
    assert open_study(tmp_path / "a").provenance.data_json == ""
    copy = shutil.copytree(photos, tmp_path / "photos")
    changed_images(copy)
    with pytest.raises(StudyError, match=r"the images differ: photos: 3 classes.* there, photos: 3 classes"):
        search(small_space, tmp_path / "a", nas.load_data(copy))
    search(small_space, tmp_path / "a", nas.load_data(photos), trials=3)
    assert DataDescription.from_json(open_study(tmp_path / "a").provenance.data_json).totals()["cat"] == 40


@pytest.fixture
def asked(tmp_path, photos):
    """A study begun by the command line, with its images and its space's file, that can be moved."""
    copy = shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "moved_space.py").write_text(SPACE_FILE.replace("WIDEST", "3"))
    words = ["search", "--data", str(copy), "--space", f"{tmp_path}/moved_space.py:space", "--seed", "3"]
    words += ["--executor", "inline", "--out", str(tmp_path / "a"), "--trials", "2", "--controller", "random"]
    words += ["--compare-random", "1", "--compare-seeds", "0", "--batch-size", "8"]

    def begin(*more):
        settings = request_of(parse([*words, *more])).settings
        run(settings, tmp_path / "a")
        return settings

    return begin


def run(settings, out):
    sys.modules.pop("moved_space", None)  # a resume is another process
    prepared = prepare(settings)
    return search(
        prepared.space, out, prepared.data, trials=settings.trials, seed=settings.seed,
        recipe=prepared.recipe, settings=settings.to_dict(),
    )  # fmt: skip


def resumed(out, *words):
    return request_of(parse(["resume", str(out), *words]))


def test_a_resume_takes_images_and_space_from_where_they_are_now(tmp_path, asked):
    asked()
    out = tmp_path / "a"
    (tmp_path / "new").mkdir()
    shutil.move(tmp_path / "photos", tmp_path / "new" / "pictures")
    with pytest.raises(StudyError, match=r"photos, which is not there: .* nas resume .*/a --data NEW"):
        resumed(out)
    now = ("--data", str(tmp_path / "new" / "pictures"))
    shutil.move(tmp_path / "moved_space.py", tmp_path / "new" / "moved_space.py")
    with pytest.raises(StudyError, match=r"moved_space.py, which is not there: .* --space NEW.py:name"):
        resumed(out, *now)
    now += ("--space", f"{tmp_path}/new/moved_space.py:space", "--trials", "4")
    assert len(run(resumed(out, *now).settings, out).trials) == 4
    assert len(run(resumed(out, "--trials", "5").settings, out).trials) == 5


def test_a_study_of_columns_of_a_table_continues_and_may_be_moved(tmp_path, small_space, photos):
    folder = shutil.copytree(photos, tmp_path / "photos")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    lines = [f"{path},{place + 0.5},{place % 7}" for place, path in enumerate(files)]
    (folder / "labels.csv").write_text("\n".join(["file,angle,lamp", *lines]))
    words = ["search", "--space", "small", "--executor", "inline", "--out", str(tmp_path / "a")]
    words += ["--controller", "random", "--trials", "2", "--objective", "max r2", "--batch-size", "8"]
    words += ["--data", f"{folder}/labels.csv:angle"]
    settings = request_of(parse(words)).settings
    search(small_space, tmp_path / "a", nas.load_data(photos), settings=settings.to_dict())
    assert resumed(tmp_path / "a").settings.data == f"{folder}/labels.csv:angle"
    assert request_of(parse(words)).settings == settings
    with pytest.raises(StudyError) as error:
        resumed(tmp_path / "a", "--data", f"{folder}/other.csv:angle")
    assert f"searched with --data {folder}/labels.csv:angle, and cannot be continued with" in str(error.value)
    assert f"{folder}/other.csv, which is not there" in str(error.value)
    assert error.value.field == "data"
    moved = shutil.move(folder, tmp_path / "moved")
    with pytest.raises(StudyError, match=r"--data .*labels\.csv, which is not there: .* --data NEW:angle"):
        resumed(tmp_path / "a")
    now = f"{moved}/labels.csv:angle"
    assert resumed(tmp_path / "a", "--data", now).settings.data == now


def test_a_space_that_changed_with_its_move_is_another_study(tmp_path, asked):
    asked()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "moved_space.py").write_text(SPACE_FILE.replace("WIDEST", "4"))
    now = resumed(tmp_path / "a", "--space", f"{tmp_path}/new/moved_space.py:space")
    with pytest.raises(StudyError, match="the space tiny has other choices there"):
        run(now.settings, tmp_path / "a")
    with pytest.raises(StudyError, match=r"--space is .*moved_space\.py:space there, small here"):
        resumed(tmp_path / "a", "--space", "small")


def test_a_resume_compares_as_the_search_was_asked_to(tmp_path, asked):
    asked()
    assert (resumed(tmp_path / "a").randoms, resumed(tmp_path / "a").seeds) == (1, 0)
    again = resumed(tmp_path / "a", "--compare-random", "5", "--compare-seeds", "4", "--trials", "3")
    assert (again.randoms, again.seeds) == (5, 4)
    run(again.settings, tmp_path / "a")
    assert (resumed(tmp_path / "a").randoms, resumed(tmp_path / "a").seeds) == (5, 4)


def test_a_study_of_an_earlier_version_is_compared_by_default(tmp_path, asked):
    asked()
    with closing(sqlite3.connect(tmp_path / "a" / FILE_NAME)) as database, database:
        (text,) = database.execute("SELECT settings_json FROM study").fetchone()
        new = ("compare_random", "compare_seeds", "enqueue", "warm_start")
        old = {name: value for name, value in json.loads(text).items() if name not in new}
        database.execute("UPDATE study SET settings_json = ?", [json.dumps(old)])
    assert (resumed(tmp_path / "a").randoms, resumed(tmp_path / "a").seeds) == (RANDOMS, SEEDS)


def test_a_resume_remembers_what_was_enqueued_without_its_files(tmp_path, asked):
    space = prepare(asked()).space
    networks = [space.decode(space.sample(np.random.default_rng(seed))) for seed in range(3)]
    shutil.rmtree(tmp_path / "a")
    for index, network in enumerate(networks):
        (tmp_path / f"{index}.json").write_text(network.to_json())
    asked("--enqueue", str(tmp_path / "0.json"), "--enqueue", str(tmp_path / "1.json"))
    for index in range(2):
        (tmp_path / f"{index}.json").unlink()
    again = resumed(tmp_path / "a", "--enqueue", str(tmp_path / "2.json"))
    assert read_enqueued(again.settings.enqueue, space) == tuple(networks)


def test_a_warm_start_is_remembered_until_the_first_trial(tmp_path, asked):
    settings = asked("--warm-start", str(tmp_path / "earlier"))
    assert settings.warm_start == str(tmp_path / "earlier")
    assert resumed(tmp_path / "a").warm_start is None
    with closing(sqlite3.connect(tmp_path / "a" / FILE_NAME)) as database, database:
        for table in ("measurement", "attempt", "trial", "controller"):
            database.execute(f"DELETE FROM {table}")
    assert resumed(tmp_path / "a").warm_start == str(tmp_path / "earlier")


def test_what_is_left_of_a_study_is_refused_before_images_are_read(tmp_path, asked, capsys):
    asked()
    out = tmp_path / "a"
    (out / FILE_NAME).unlink()
    for words in (
        ["search", "--data", "nowhere/", "--space", "small", "--out", str(out)],
        ["search", "--data", "nowhere/", "--space", "small", "--out", str(out), "--dry-run"],
        ["resume", str(out)],
        ["quickstart", "--out", str(out)],
        ["show", str(out)],
        ["export", str(out)],
    ):
        assert main(words) == 2
        assert "holds what is left of a study: study.lock" in capsys.readouterr().err


def test_settings_survive_their_journal(asked):
    settings = asked()
    again = Settings.from_dict(json.loads(json.dumps(settings.to_dict())), settings.data)
    assert again == settings
    with pytest.raises(NasError):
        Settings.from_dict({}, settings.data)
