"""A table of file names and labels is read as data: its columns, its files, its splits, its task."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.images import Carving, Files, Reading, joined
from nas.data.labelled import load_labelled
from nas.data.loading import load_data
from nas.errors import DataError

COUNT = 30


def write_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path):
    """A folder with 30 images, `0000.png` to `0029.png`."""
    for number in range(COUNT):
        write_image(tmp_path / f"{number:04}.png", number)
    return tmp_path


def names(count=COUNT, suffix=".png", prefix=""):
    return [f"{prefix}{number:04}{suffix}" for number in range(count)]


def write(folder, rows, *, name="labels.csv", sep=",", end="\n", encoding="utf-8"):
    text = end.join(sep.join(map(str, row)) for row in rows) + end
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def classes(count=COUNT):
    return [["cat", "dog", "newt"][number % 3] for number in range(count)]


def table(header=("file", "label"), files=None, labels=None):
    files, labels = files or names(), labels or classes()
    return [header, *zip(files, labels, strict=True)] if header else list(zip(files, labels, strict=True))


def by_name(data):
    parts = [data.train, data.search, data.test]
    return {part.name(place): part.labels[place].tolist() for part in parts for place in range(len(part))}


def words(data):
    return {name: data.classes[label] for name, label in by_name(data).items()}


EXPECTED = dict(zip(names(), classes(), strict=True))


@pytest.mark.parametrize(
    "header", [("file", "label"), ("Image Path", "Class"), ("image_id", "y"), ("a", "b"), None]
)
def test_every_image_gets_the_label_of_its_line(images, header):
    data = load_data(write(images, table(header)))
    assert data.task == "classification"
    assert data.classes == ("cat", "dog", "newt")
    assert words(data) == EXPECTED
    assert data.name == "labels"


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_every_spelling_are_read(images, sep, end, encoding):
    assert words(load_data(write(images, table(), sep=sep, end=end, encoding=encoding))) == EXPECTED


def test_a_list_with_spaces_between_is_read(images):
    assert words(load_data(write(images, table(None), name="list.txt", sep=" "))) == EXPECTED


def test_quotes_spaces_and_blank_lines_do_not_matter(images):
    rows = [("file", " label"), *((f'"{name}"', f' "{label}" ') for name, label in EXPECTED.items())]
    path = write(images, [*rows[:5], ("", ""), *rows[5:]])
    path.write_text(path.read_text() + "\n\n")
    assert words(load_data(path)) == EXPECTED


def test_columns_may_come_in_any_order(images):
    rows = [("label", "file"), *((label, name) for name, label in EXPECTED.items())]
    assert words(load_data(write(images, rows))) == EXPECTED


@pytest.mark.parametrize("kind", ["absolute", "dotted", "ids", "windows", "moved", "above"])
def test_files_are_found_however_they_are_written(images, kind):
    folder = images / "set"
    for name in names():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        shutil.move(images / name, folder / "images" / name)
    written = {
        "absolute": names(prefix=f"{folder}/images/"),
        "dotted": names(prefix="./images/"),
        "ids": names(suffix=""),
        "windows": names(prefix="images\\"),
        "moved": names(prefix="/home/other/set/images/"),
        "above": names(prefix="../images/"),
    }[kind]
    place = folder / "tables" if kind == "above" else folder
    data = load_data(write(place, table(files=written)))
    prefix = "../images/" if kind == "above" else "images/"
    assert words(data) == {f"{prefix}{name}": label for name, label in EXPECTED.items()}
    assert any("looked up" in note for note in data.notes) == (kind == "ids")


def test_the_same_labels_give_the_same_fingerprint_however_files_are_written(images):
    first = load_data(write(images, table()))
    other = load_data(write(images, table(files=names(prefix=f"{images}/"))))
    assert first.fingerprint == other.fingerprint
    changed = load_data(write(images, table(labels=["dog", *classes()[1:]])))
    assert changed.fingerprint != first.fingerprint


def test_a_column_says_the_split(images):
    splits = ["Train"] * 18 + ["validation"] * 6 + ["TEST"] * 6
    rows = [("file", "label", "split"), *zip(names(), classes(), splits, strict=True)]
    data = load_data(write(images, rows))
    assert [len(data.train), len(data.search), len(data.test)] == [18, 6, 6]
    assert {data.test.name(place) for place in range(6)} == set(names()[24:])


def test_tables_beside_each_other_give_the_splits(images):
    rows = table()
    write(images, rows[:22], name="train.csv")
    write(images, [rows[0], *rows[22:]], name="test.csv")
    for spec in (images / "train.csv", images / "test.csv", images):
        data = load_data(spec)
        assert len(data.test) == 9
        assert words(data) == EXPECTED
        assert "splits are read by the tables' names: train from train.csv, test from test.csv" in data.notes


def test_ids_mean_files_in_the_folder_of_their_split(images):
    for number in range(COUNT):
        write_image(images / "train" / f"{number}.png", 100 + number)
        write_image(images / "test" / f"{number}.png", 200 + number)
    rows = table(("id", "label"), files=list(range(COUNT)))
    write(images, rows, name="train.csv")
    write(images, rows, name="test.csv")
    data = load_data(images)
    assert {data.test.name(place).split("/")[0] for place in range(len(data.test))} == {"test"}
    assert {data.train.name(place).split("/")[0] for place in range(len(data.train))} == {"train"}


def test_a_table_without_labels_beside_it_is_skipped_with_a_warning(images):
    write(images, table(("id_code", "diagnosis"))[:25], name="train.csv")
    for rows in (
        [("id_code",), *((name,) for name in names()[24:])],
        [("id_code", "height"), *((name, 3) for name in names()[24:])],
    ):
        write(images, rows, name="test.csv")
        data = load_data(images / "train.csv")
        assert (
            "skipped test.csv, which has no column 'diagnosis': its 6 images have no labels" in data.warnings
        )
        assert len(words(data)) == 24


def test_a_network_that_exists_is_tried_on_a_test_table_alone(images):
    path = write(images, table()[:4], name="test.csv")
    reading = Reading(channels=3, resolution=8)
    found = load_labelled(path, "test", reading, carving=Carving(), task="classification")
    assert [found.classes[label] for label in found.part.labels] == classes()[:3]
    with pytest.raises(DataError, match="images to train from") as error:
        load_data(path)
    assert error.value.field == "data"


def test_a_carved_split_is_that_of_the_training(images):
    path = write(images, table())
    data = load_data(path, seed=3)
    found = load_labelled(path, "test", data.reading, carving=Carving(seed=3), task=data.task)
    assert found.split_fingerprint == data.split_fingerprint
    assert np.array_equal(found.part.labels, data.test.labels)


def test_large_sets_stay_on_disk(images):
    data = load_data(write(images, table()), resident_bytes=100)
    assert isinstance(data.train, Files)
    assert words(data) == EXPECTED


# Tasks


def test_whole_numbers_are_classes_in_order_of_size(images):
    labels = [[2, 10, 9][number % 3] for number in range(COUNT)]
    data = load_data(write(images, table(labels=labels)))
    assert data.task == "classification"
    assert data.classes == ("2", "9", "10")
    assert data.notes == ("task: classification by the column 'label' of whole numbers, 3 classes",)


def test_codes_with_leading_zeros_keep_them(images):
    data = load_data(write(images, table(labels=[["007", "7"][number % 2] for number in range(COUNT)])))
    assert data.classes == ("007", "7")


def test_numbers_that_are_not_whole_are_a_regression(images):
    labels = [f"{number / 4}" for number in range(COUNT)]
    data = load_data(write(images, table(("file", "age"), labels=labels)))
    assert (data.task, data.classes) == ("regression", ("age",))
    assert by_name(data) == {name: [number / 4] for number, name in enumerate(names())}
    assert not data.mirrors
    assert data.notes[0].startswith("task: regression of the numbers in the column age")


def test_whole_numbers_are_a_regression_where_the_task_says_so(images):
    path = write(images, table(("file", "age"), labels=list(range(COUNT))))
    assert by_name(load_data(path, task="regression")) == {name: [n] for n, name in enumerate(names())}
    with pytest.raises(DataError, match="give --task regression if they are numbers") as error:
        load_data(path)
    assert error.value.field == "task"


def test_many_different_whole_numbers_are_said_to_be_perhaps_numbers(tmp_path):
    for number in range(75):
        write_image(tmp_path / f"{number:04}.png", number)
    data = load_data(write(tmp_path, table(files=names(75), labels=[number % 25 for number in range(75)])))
    assert any("25 different whole numbers" in warning for warning in data.warnings)


def test_several_columns_of_numbers_are_predicted_together(images):
    rows = [("file", "x", "y"), *((name, n + 0.5, 2 * n + 0.25) for n, name in enumerate(names()))]
    data = load_data(write(images, rows))
    assert (data.task, data.classes) == ("regression", ("x", "y"))
    assert by_name(data)["0003.png"] == [3.5, 6.25]


@pytest.mark.parametrize("task", [None, "regression"])
def test_decimal_commas_of_spreadsheets_are_read(images, task):
    rows = [("file", "age"), *((name, f"{n},5") for n, name in enumerate(names()))]
    data = load_data(write(images, rows, sep=";"), task=task)
    assert by_name(data)["0003.png"] == [3.5]
    assert "commas in numbers are read as decimal points" in data.notes


def test_decimal_commas_in_several_columns_are_read(images):
    rows = [("file", "x", "y"), *((name, f"{n},5", f"{2 * n},25") for n, name in enumerate(names()))]
    data = load_data(write(images, rows, sep=";"))
    assert data.classes == ("x", "y")
    assert by_name(data)["0003.png"] == [3.5, 6.25]


def test_quoted_numbers_with_one_comma_are_refused_as_unclear(images):
    rows = [("file", "age"), *((name, f'"{n},5"') for n, name in enumerate(names()))]
    path = write(images, rows)
    with pytest.raises(DataError, match="may be decimal commas or separate labels") as error:
        load_data(path)
    assert error.value.field == "task"
    assert by_name(load_data(path, task="regression"))["0003.png"] == [3.5]
    assert load_data(path, task="multilabel").task == "multilabel"


def labels_of(number):
    return [name for place, name in enumerate(("cat", "dog", "newt")) if (number + 1) >> place & 1]


@pytest.mark.parametrize("kind", ["|", ";", ",", "list"])
def test_separated_labels_are_several_labels(images, kind):
    cells = [str(labels_of(n % 7)) if kind == "list" else kind.join(labels_of(n % 7)) for n in range(COUNT)]
    rows = [("file", "labels"), *((name, f'"{cell}"') for name, cell in zip(names(), cells, strict=True))]
    data = load_data(write(images, rows))
    assert (data.task, data.classes) == ("multilabel", ("cat", "dog", "newt"))
    assert by_name(data)["0002.png"] == [1, 1, 0]
    assert data.notes[0].startswith("task: multilabel, as the column 'labels' holds several labels")


def test_class_names_with_commas_stay_whole(images):
    labels = [["tench, Tinca tinca", "goldfish, Carassius", "crane"][n % 3] for n in range(COUNT)]
    rows = [("file", "label"), *((name, f'"{cell}"') for name, cell in zip(names(), labels, strict=True))]
    data = load_data(write(images, rows))
    assert data.task == "classification"
    assert data.num_classes == 3
    assert any("--task multilabel takes it apart" in note for note in data.notes)


def test_words_between_spaces_are_labels_where_the_task_says_so(images):
    rows = table(("image_name", "tags"), labels=[" ".join(labels_of(n % 7)) for n in range(COUNT)])
    path = write(images, rows)
    assert load_data(path).task == "classification"
    data = load_data(path, task="multilabel")
    assert data.classes == ("cat", "dog", "newt")
    assert by_name(data)["0002.png"] == [1, 1, 0]


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("1", "-1")])
def test_columns_of_0_and_1_are_labels(images, yes, no):
    rows = [("file", "cat", "dog", "newt")]
    for number, name in enumerate(names()):
        rows.append((name, *(yes if each in labels_of(number % 7) else no for each in rows[0][1:])))
    data = load_data(write(images, rows))
    assert (data.task, data.classes) == ("multilabel", ("cat", "dog", "newt"))
    assert by_name(data)["0002.png"] == [1, 1, 0]


def test_one_1_in_every_line_is_a_class_unless_the_task_says_otherwise(images):
    rows = [("file", "cat", "dog", "newt")]
    rows += [(name, *(int(n % 3 == place) for place in range(3))) for n, name in enumerate(names())]
    path = write(images, rows)
    assert words(load_data(path)) == EXPECTED
    assert load_data(path, task="multilabel").task == "multilabel"


@pytest.mark.parametrize("labels", ["1,0", "0,1"])
def test_columns_with_the_same_1_in_every_line_may_be_labels_of_their_own(images, labels):
    rows = [("file", "red", "blue"), *((name, labels) for name in names())]
    refused(
        write(images, rows),
        r"of the 2 classes read from .*, '\w+' has 0: every image has one 1 .* give --task multilabel",
        "task",
    )


@pytest.mark.parametrize("kind", ["flags", "one 1", "numbers"])
def test_neither_columns_nor_lines_in_another_order_are_other_data(images, kind):
    header = ["newt", "cat", "dog"]
    cells = {
        "flags": lambda n: [int(each in labels_of(n % 7)) for each in header],
        "one 1": lambda n: [int(n % 3 == place) for place in range(3)],
        "numbers": lambda n: [n + 0.5, n * n % 7 + 0.5, n % 5 + 0.25],
    }[kind]
    rows = [("file", *header), *((name, *cells(n)) for n, name in enumerate(names()))]
    turned = [(row[0], *row[:0:-1]) for row in (rows[0], *rows[:0:-1])]
    first, second = load_data(write(images, rows)), load_data(write(images, turned, name="turned.csv"))
    assert first.content_digest == second.content_digest
    assert first.split_fingerprint == second.split_fingerprint
    if kind == "flags":
        lists = ["|".join(each for each in header if each in labels_of(n % 7)) for n in range(COUNT)]
        assert load_data(write(images, table(labels=lists))).content_digest == first.content_digest


def test_numbers_are_no_labels(images):
    labels = [n + 0.25 for n in range(COUNT)]
    refused(
        write(images, table(labels=labels)), "numbers such as 0.25: .*regression", "task", task="multilabel"
    )


def test_labels_of_one_image_each_are_refused(images):
    labels = [f"P{n}" if n % 4 else "cat" for n in range(COUNT)]
    refused(
        write(images, table(labels=labels)),
        "at least 3 images have, .*22 of the 30 .* have rarer ones alone, as are 22 of its 23 labels",
        task="multilabel",
    )


def test_cells_with_a_unit_are_said_to_be_classes(images):
    data = load_data(write(images, table(labels=["50%", "75 %", "100%"] * 10)))
    assert data.task == "classification"
    assert any("read as names of classes: if they are numbers" in each for each in data.warnings)


def test_images_without_any_label_are_counted(images):
    cells = ["cat|dog", "", "dog"] * 10
    data = load_data(write(images, table(labels=cells)))
    assert by_name(data)["0001.png"] == [0, 0]
    assert data.warnings[0].startswith("10 images have no label and count as having none of them: 0001.png")


def test_lines_of_one_label_each_are_put_together_for_several_labels(images):
    rows = [*table(labels=["red cat"] * COUNT), *((name, "dog") for name in names(12))]
    path = write(images, rows)
    with pytest.raises(DataError, match=r"'red cat' and 'dog' \(labels.csv line 2, labels.csv line 32\)"):
        load_data(path)
    data = load_data(path, task="multilabel")
    assert data.classes == ("dog", "red cat")
    assert by_name(data)["0000.png"] == [1, 1]
    assert by_name(data)["0020.png"] == [0, 1]
    assert data.notes[0].startswith("12 lines add a label to an image of an earlier line: 0000.png, 0001.png")
    assert "task: multilabel, as images have labels in several lines of the column 'label'" in data.notes


def test_lines_of_an_image_may_hold_several_labels_each(images):
    rows = [*table(labels=["cat;dog"] * COUNT), ("0000.png", "newt"), *(("0001.png", "newt"),) * 2]
    data = load_data(write(images, [*rows, ("0002.png", "newt")]), task="multilabel")
    assert data.classes == ("cat", "dog", "newt")
    assert by_name(data)["0000.png"] == [1, 1, 1]
    assert "1 line repeats an image and its labels: 0001.png" in data.notes


def test_one_label_for_each_image_is_said(images):
    data = load_data(write(images, table()), task="multilabel")
    assert data.notes == ("task: multilabel, with one label for each image in the column 'label'",)


# Columns


def extra_columns():
    rows = [("file", "patient", "age", "height")]
    return rows + [(name, f"P{n}", n + 20, n / 10 + 150.05) for n, name in enumerate(names())]


def test_columns_of_labels_can_be_chosen(images):
    path = write(images, extra_columns())
    data = load_data(f"{path}:height")
    assert data.classes == ("height",)
    assert any("read from the column height of labels.csv; passed over patient, age" in n for n in data.notes)
    assert load_data(f"{path}:Height , age").classes == ("height", "age")
    assert load_data(Path(f"{path}:age"), task="regression").classes == ("age",)


def test_a_colon_without_columns_chooses_none(images):
    assert words(load_data(f"{write(images, table())}:")) == dict(zip(names(), classes(), strict=True))


def test_columns_that_may_be_labels_or_not_are_refused(images):
    path = write(images, extra_columns())
    with pytest.raises(DataError, match=r"'patient', 'age', 'height' .* as in labels.csv:patient") as error:
        load_data(path)
    assert error.value.field == "data"


def test_a_column_named_label_is_one_whatever_else_there_is(images):
    rows = [("", "file", "site", "label")]
    rows += [(n, name, f"S{n}", label) for n, (name, label) in enumerate(EXPECTED.items())]
    data = load_data(write(images, rows))
    assert words(data) == EXPECTED
    assert any("passed over a column without name, site" in note for note in data.notes)


def test_the_index_that_pandas_writes_is_no_label(images):
    rows = [("", "file", "species"), *((n, name, label) for n, (name, label) in enumerate(EXPECTED.items()))]
    assert words(load_data(write(images, rows))) == EXPECTED


def test_columns_without_names_are_chosen_by_their_place(images):
    rows = [(name, f"P{n}", n / 4) for n, name in enumerate(names())]
    assert load_data(f"{write(images, rows)}:3").classes == ("3",)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("agee", "did you mean 'age'"),
        ("file", "holds the names of files"),
        ("age,age", "once"),
        (",", "has none"),
    ],
)
def test_columns_that_are_not_there_are_refused(images, chosen, words):
    with pytest.raises(DataError, match=words) as error:
        load_data(f"{write(images, extra_columns())}:{chosen}")
    assert error.value.field == "data"


# Bad input


def refused(path, match, field="data", **options):
    with pytest.raises(DataError, match=match) as error:
        load_data(path, **options)
    assert error.value.field == field


def test_a_missing_file_is_named_with_its_line(images):
    rows = table(files=[*names()[:-1], "gone.png"])
    refused(write(images, rows), r"1 of 30 is not there: 'gone.png' \(labels.csv line 31\); correct")


def test_a_first_line_with_a_missing_file_is_no_line_of_names(images):
    refused(write(images, table(None, files=["gone.png", *names()[1:]])), r"'gone.png' \(labels.csv line 1\)")


def test_a_file_name_that_may_be_two_files_is_refused(images):
    write_image(images / "0003.bmp", 3)
    refused(write(images, table(files=names(suffix=""))), r"'0003' may be 0003.bmp, 0003.png")


def test_one_unreadable_image_is_skipped_and_more_are_refused(images):
    path = write(images, table())
    (images / "0004.png").write_bytes(b"no image")
    assert load_data(path).warnings == ("skipped 1 of 30 images that cannot be read: 0004.png",)
    (images / "0005.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of 30 are: 0004\.png, 0005\.png"):
        load_data(path)


def test_a_split_of_which_no_image_can_be_read_is_refused(images):
    rows = [("file", "label", "split"), *((n, c, "train") for n, c in EXPECTED.items())]
    (images / "bad.png").write_bytes(b"no image")
    refused(write(images, [*rows, ("bad.png", "cat", "test")]), "none of the 1 test images")


def test_lines_that_repeat_each_other_are_counted(images):
    rows = table()
    data = load_data(write(images, [*rows, rows[3], ("./0004.png", rows[5][1])]))
    assert words(data) == EXPECTED
    assert "2 lines repeat an image and its labels: 0002.png, 0004.png" in data.notes


def test_an_image_with_two_labels_is_refused(images):
    refused(
        write(images, [*table(), ("0000.png", "dog")]), r"0000.png has 'cat' and 'dog' .*--task multilabel"
    )


def test_an_image_in_two_splits_is_refused(images):
    rows = [("file", "label", "split"), *((n, c, "train") for n, c in EXPECTED.items())]
    refused(
        write(images, [*rows, ("0000.png", "cat", "test")]),
        r"in train \(labels.csv line 2\) and in test \(labels.csv line 32\)",
    )


def test_a_label_in_the_test_split_alone_is_refused(images):
    rows = [("file", "label", "split"), *((n, c, "train") for n, c in EXPECTED.items())]
    rows[30] = ("0029.png", "bird", "test")
    refused(write(images, rows), r"'bird' is in test alone \(labels.csv line 31\)")


def test_a_class_without_an_image_in_the_test_split_is_said(images):
    rows = [("file", "label", "split")]
    rows += [(n, c, "test" if c == "cat" and int(n[:4]) > 15 else "train") for n, c in EXPECTED.items()]
    assert "the test split lacks 2 of 3 classes: dog, newt" in load_data(write(images, rows)).warnings


@pytest.mark.parametrize("cell", ["", "NaN", "null", "#N/A"])
@pytest.mark.parametrize("labels", [classes(), [n / 4 for n in range(COUNT)]])
def test_a_missing_label_is_named_with_its_line_and_column(images, cell, labels):
    labels = [*labels]
    labels[4] = cell
    refused(
        write(images, table(labels=labels)), r"line 6 \(0004.png\) has .* in the column 'label': fill it in"
    )


def test_text_where_numbers_are_asked_for_is_named_with_its_line_and_column(images):
    refused(write(images, table()), "line 2 has 'cat' in the column 'label'", task="regression")
    labels = [n / 4 for n in range(COUNT)]
    labels[7] = "3.5kg"
    refused(write(images, table(labels=labels)), "line 9 has '3.5kg' in the column 'label'.*classification")


@pytest.mark.parametrize("cell", ["inf", "1e99", "1_000", "0x10"])
def test_numbers_that_are_none_are_refused(images, cell):
    labels = [n / 4 for n in range(COUNT)]
    labels[7] = cell
    refused(write(images, table(labels=labels)), "must be finite numbers", task="regression")


def test_several_columns_of_text_are_refused(images):
    path = write(images, extra_columns())
    refused(f"{path}:age,patient", "several columns .* line 2 has 'P0' in the column 'patient'.*one column")


def test_a_flag_that_is_none_is_refused(images):
    rows = [("file", "cat", "dog"), *((name, n % 2, 1) for n, name in enumerate(names()))]
    rows[4] = ("0003.png", "2", "1")
    refused(write(images, rows), "line 5 has '2' in the column 'cat'", task="multilabel")


def test_several_columns_are_no_classes(images):
    rows = [("file", "cat", "dog"), *((name, 1, 1) for name in names())]
    refused(write(images, rows), "one 1 among 0", "task", task="classification")


def test_one_class_is_too_few(images):
    with pytest.raises(DataError, match="at least 2 classes"):
        load_data(write(images, table(labels=["cat"] * COUNT)))


def test_numbers_that_are_all_the_same_are_refused(images):
    refused(write(images, table(labels=["1.5"] * COUNT)), "the same in label")


def test_labels_that_differ_in_capitals_are_said(images):
    data = load_data(write(images, table(labels=["cat", "Cat", "dog"] * 10)))
    assert "labels that differ in capitals or spaces alone are two: 'Cat' and 'cat'" in data.warnings


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n", "is empty"),
        (b"file,label\n", "names of columns alone"),
        (b"0000.png\n0001.png\n", "a column of file names and one of labels"),
        (b"file,label\n0000.png,caf\xe9\n", "UTF-8 text, but line 2 is not"),
        (b"file,label\n0000.png,a\0b\n", "zero bytes"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00\xff", "must be"),
        (b'file,label\n0000.png,"cat\n0001.png,dog\n', "a quoted cell does not end: check the quotes"),
        (b"file,label\n0000.png,cat\n0001.png,dog,newt\n", "line 1 has 2 and line 3 has 3"),
        (b"file,label\n0000.png," + b"a" * 200_000 + b"\n", "field larger than field limit"),
        (b"file,label,label\n0000.png,cat,dog\n", "'label' is there twice"),
        (b"word,label\nfoo,cat\nbar,dog\n", "must have a column of file names"),
        (b"file,split\n0000.png,train\n0001.png,test\n", "file names alone|must have a column of labels"),
        (b"file,label,split\n0000.png,cat,train\n0001.png,dog,later\n", "line 3 has 'later'"),
    ],
)
def test_tables_that_cannot_be_understood_are_refused(images, content, match):
    (images / "labels.csv").write_bytes(content)
    refused(images / "labels.csv", match)


def test_a_table_that_is_not_there_is_said(tmp_path):
    refused(tmp_path / "labels.csv", "there is no table of labels")
    refused("labels.csv:age", "there is no table of labels")


# Folders


def test_a_folder_of_images_with_one_table_is_read_by_it(images):
    for name in names():
        (images / "images").mkdir(exist_ok=True)
        shutil.move(images / name, images / "images" / name)
    write(images, table())
    write(images, [("a", "b"), (1, 2)], name="notes.csv")
    assert len(words(load_data(images))) == COUNT


def test_a_folder_of_classes_is_read_by_its_subfolders_beside_a_table(images):
    for number, name in enumerate(names()):
        (images / "ab"[number % 2]).mkdir(exist_ok=True)
        shutil.move(images / name, images / "ab"[number % 2] / name)
    plain = load_data(images)
    path = write(images, table())
    data = load_data(images)
    assert data.classes == ("a", "b")
    assert data.fingerprint == plain.fingerprint
    assert data.notes[0] == f"the subfolders are the classes; give {path} to read labels from it"
    assert load_data(path).classes == ("cat", "dog", "newt")


def test_two_tables_in_a_folder_are_refused(images):
    write(images, table())
    write(images, table(), name="other.csv")
    refused(images, "holds labels.csv, other.csv: give one")


def test_joined_splits_of_numbers_keep_their_rows(images):
    rows = [("file", "x", "y"), *((name, n + 0.5, 2 * n + 0.25) for n, name in enumerate(names()))]
    data = load_data(write(images, rows), resident_bytes=100)
    whole = joined([data.train, data.search, data.test])
    assert whole.labels.shape == (COUNT, 2)
    assert (2 * whole.labels[:, 0] - whole.labels[:, 1] == 0.75).all()
