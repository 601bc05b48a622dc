import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.layout import part_name
from nas.data.loading import load_data
from nas.errors import DataError


def encode(content, form="PNG", mode="RGB"):
    """Bytes of an image that only this content gives."""
    rng = np.random.default_rng(list(str(content).encode()))
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert(mode).save(stream, form)
    return stream.getvalue()


def write(path, form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(path.parts[-4:], form))
    return path


def write_classes(folder, classes=("cat", "dog"), count=10):
    for name in classes:
        for number in range(count):
            write(folder / name / f"{number:03}.png")
    return folder


def used(data):
    return sorted(path for part in (data.train, data.search, data.test) for path in part.paths)


def load(folder):
    """Leaves the images on disk, so that the paths can be seen."""
    return load_data(folder, resident_bytes=1)


FOREIGN = [
    *(".ipynb_checkpoints", "__MACOSX", "@eaDir", ".thumbnails", ".git", "#recycle", "$RECYCLE.BIN"),
    *("lost+found", "__pycache__", "System Volume Information", "@Recycle", "#snapshot", ".Trash-1000"),
]


@pytest.mark.parametrize("where", ["", "cat", "cat/deep/er"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_folder_is_passed_over_at_any_depth_and_named(tmp_path, name, where):
    before = load(write_classes(tmp_path))
    write(tmp_path / where / name / "inner" / "000.png")
    data = load(tmp_path)
    assert used(data) == used(before)
    assert data.fingerprint == before.fingerprint
    assert any(name in note and "hidden" in note for note in data.notes)


@pytest.mark.parametrize("name", ["._000.png", ".hidden.jpg", "Thumbs.db", ".DS_Store", "desktop.ini"])
def test_a_foreign_file_is_passed_over_and_named(tmp_path, name):
    write_classes(tmp_path)
    write(tmp_path / "cat" / name)
    data = load(tmp_path)
    assert len(used(data)) == 20
    assert any(name in note for note in data.notes)


def test_the_data_folder_itself_may_be_hidden(tmp_path):
    assert len(used(load(write_classes(tmp_path / ".cache" / "@eaDir")))) == 20


@pytest.mark.parametrize("name", ["__background__", "__unknown", "@home", "#1", "_misc"])
def test_a_class_may_begin_with_a_sign(tmp_path, name):
    data = load(write_classes(tmp_path, classes=("cat", "dog", name)))
    assert set(data.classes) == {"cat", "dog", name}


def test_a_linked_class_folder_and_linked_files_are_used(tmp_path):
    store = write_classes(tmp_path / "store")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(store / "cat")
    (tmp_path / "set" / "dog").mkdir()
    for path in (store / "dog").iterdir():
        (tmp_path / "set" / "dog" / path.name).symlink_to(path)
    data = load(tmp_path / "set")
    assert len(used(data)) == 20
    assert data.warnings == load_data(tmp_path / "set").notes == ()
    assert data.content_digest == load(store).content_digest


def test_a_folder_that_is_linked_deep_inside_a_class_is_used(tmp_path):
    write_classes(tmp_path / "set")
    write_classes(tmp_path / "more", classes=("extra",), count=3)
    (tmp_path / "set" / "cat" / "extra").symlink_to(tmp_path / "more" / "extra")
    assert len(used(load(tmp_path / "set"))) == 23


@pytest.mark.parametrize("target", ["..", "../..", ".", "../dog", "000.png", "../dog/001.png"])
def test_loops_end_and_what_has_two_paths_is_used_once_under_its_own(tmp_path, target):
    before = load(write_classes(tmp_path / "set"))
    (tmp_path / "set" / "cat" / "a_link.png").symlink_to(target)
    data = load(tmp_path / "set")
    assert used(data) == used(before)
    assert data.fingerprint == before.fingerprint
    assert any("cat/a_link.png" in note for note in data.notes)


def test_an_image_linked_twice_from_outside_is_used_once(tmp_path):
    write_classes(tmp_path / "set")
    outside = write(tmp_path / "store" / "x.png")
    for path in ("cat/x.png", "cat/y.png", "dog/x.png"):
        (tmp_path / "set" / path).symlink_to(outside)
    assert len(used(load(tmp_path / "set"))) == 21


def test_links_that_cross_each_other_end(tmp_path):
    write_classes(tmp_path)
    for first in "abcdefgh":
        (tmp_path / "cat" / first).mkdir()
    for first in "abcdefgh":
        for second in "abcdefgh":
            (tmp_path / "cat" / first / second).symlink_to(tmp_path / "cat" / second)
    assert len(used(load(tmp_path))) == 20


def not_utf8(folder):
    return Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9\n.png"))


def dangle(folder):
    (folder / "gone.png").symlink_to(folder / "nothing.png")


def loop(folder):
    (folder / "loop.png").symlink_to(folder / "loop.png")


UNUSABLE = {
    "dangling link": (dangle, r"cat/gone.png (a link to nothing)"),
    "link to itself": (loop, r"cat/loop.png"),
    "name not UTF-8": (lambda folder: write(not_utf8(folder)), r"cat/caf\xe9\n.png (its name is not UTF-8)"),
    "folder not UTF-8": (lambda folder: write(not_utf8(folder) / "0.png"), r"cat/caf\xe9\n.png"),
    "pipe": (lambda folder: os.mkfifo(folder / "pipe.png"), r"cat/pipe.png (no ordinary file)"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_cannot_be_used_is_skipped_and_named_in_printable_text(tmp_path, kind):
    make, said = UNUSABLE[kind]
    make(write_classes(tmp_path) / "cat")
    for data in (load_data(tmp_path), load(tmp_path)):
        assert len(data.train) + len(data.search) + len(data.test) == 20
        (warning,) = data.warnings
        assert said in warning
        assert warning.isprintable()
        warning.encode()


def test_a_damaged_file_with_an_unprintable_name_is_named_escaped(tmp_path):
    write_classes(tmp_path, count=100)
    (tmp_path / "cat" / "a\nb\x1b[31m\u202e.png").write_bytes(b"")
    (warning,) = load_data(tmp_path).warnings
    assert r"cat/a\nb\x1b[31m\u202e.png" in warning


def test_a_class_folder_that_is_not_utf8_is_refused_by_name(tmp_path):
    write_classes(tmp_path)
    write(not_utf8(tmp_path) / "0.png")
    with pytest.raises(DataError, match=r"must be UTF-8, but caf\\xe9\\n.png"):
        load_data(tmp_path)


def test_a_data_folder_whose_name_is_not_utf8_is_read(tmp_path):
    data = load_data(write_classes(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))))
    assert data.name == r"\xff"
    assert len(data.train) + len(data.search) + len(data.test) == 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("path", ["cat/000.png", "cat/closed"])
def test_what_may_not_be_read_is_skipped_and_named(tmp_path, path):
    write_classes(tmp_path, count=100)
    write(tmp_path / "cat" / "closed" / "0.png")
    (tmp_path / path).chmod(0)
    try:
        (warning,) = load_data(tmp_path).warnings
    finally:
        (tmp_path / path).chmod(0o700)
    assert path in warning


def test_an_empty_class_says_what_was_skipped_in_it(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "bird").mkdir()
    dangle(tmp_path / "bird")
    with pytest.raises(DataError, match=r"bird in .* has none.*bird/gone.png \(a link to nothing\)"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("x.jfif", "JPEG"), ("x.jpe", "JPEG"), ("x.jp2", "JPEG2000"), ("x.avif", "AVIF"), ("x", "JPEG")),
        *(("x", "PNG"), ("x.dat", "WEBP"), ("x.txt", "GIF"), ("x.png", "JPEG"), ("x.JPG", "JPEG")),
        *(("x.tga", "TGA"), ("x.pbm", "PPM"), ("x.ico", "ICO"), ("x.pcx", "PCX"), ("n.2024", "BMP")),
    ],
)
def test_whatever_pillow_opens_is_an_image(tmp_path, name, form):
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {form}")
    write_classes(tmp_path)
    write(tmp_path / "cat" / name, form)
    data = load(tmp_path)
    assert f"cat/{name}" in used(data)
    assert data.warnings == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("x.txt", b"P3 is a text"), ("x.txt", b"BMW and other cars"), ("labels.csv", b"a,b\n"), ("x", b"")),
        *(("x.jfif", b""), ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(90)), ("x.mp4", b"\0\0\0\x18ftypisom" * 9)),
        ("x.mpg", b"\0\0\1\xb3" + bytes(90)),
    ],
)
def test_what_is_no_image_is_counted_by_suffix_and_named(tmp_path, name, content):
    write_classes(tmp_path)
    (tmp_path / "cat" / name).write_bytes(content)
    data = load(tmp_path)
    assert len(used(data)) == 20
    assert data.notes[0].startswith("passed over 1 file without an image")
    assert f"cat/{name}" in data.notes[0]


def test_many_files_that_are_no_images_make_one_short_note(tmp_path):
    write_classes(tmp_path)
    for number in range(30):
        (tmp_path / "cat" / f"{number:02}.xml").write_text("<a/>")
    (tmp_path / "readme").write_text("hello")
    assert load_data(tmp_path).notes == (
        "passed over 31 files without an image (30 .xml, 1 without suffix): "
        "cat/00.xml, cat/01.xml, cat/02.xml, cat/03.xml, cat/04.xml and 26 more",
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.heic", b"\0\0\0\x18ftypheic" + bytes(50)),
        ("x", b"\0\0\0\x18ftypheic" + bytes(50)),
        ("x.jxl", b"?"),
    ],
)
def test_an_image_without_a_decoder_is_a_warning_with_the_remedy(tmp_path, name, content):
    write_classes(tmp_path)
    (tmp_path / "cat" / name).write_bytes(content)
    (warning,) = load_data(tmp_path).warnings
    assert f"cat/{name}" in warning
    assert "no decoder" in warning
    assert "convert to JPEG" in warning


@pytest.mark.parametrize("above", ["", "train"])
def test_images_beside_the_class_folders_are_a_warning(tmp_path, above):
    write_classes(tmp_path / "train" if above else tmp_path)
    write(tmp_path / above / "lonely.jpg")
    (warning,) = load_data(tmp_path).warnings
    prefix = f"{above}/" if above else ""
    assert warning == f"skipped 1 image beside the folders of the classes: {prefix}lonely.jpg"


def test_a_folder_with_a_suffix_is_a_folder(tmp_path):
    write_classes(tmp_path)
    write(tmp_path / "cat" / "more.png" / "0.png")
    assert "cat/more.png/0.png" in used(load(tmp_path))


PAIRS = [
    *(("train_images", "val_images"), ("training_set", "test_set"), ("train_data", "test_data")),
    *(("seg_train", "seg_test"), ("train-set", "test-set"), ("Train", "Test"), ("TRAIN", "VALIDATION")),
    *(("images_train", "images_val"), ("train", "validate"), ("train", "eval"), ("train", "dev")),
    *(("train", "holdout"), ("train", "hold-out"), ("train2017", "val2017"), ("trainset", "testset")),
    *(("TrainImages", "TestImages"), ("Training Data", "Testing Data"), ("train_data", "test")),
    *(("1_train", "2_test"), ("train.images", "valid.images"), ("my_train_set", "my_test_set")),
]


@pytest.mark.parametrize(("train", "held_out"), PAIRS)
def test_splits_are_recognised_by_the_words_of_their_names(tmp_path, train, held_out):
    write_classes(tmp_path / train)
    write_classes(tmp_path / held_out, count=3)
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert {path.split("/")[0] for path in data.test.paths} == {held_out}
    assert {path.split("/")[0] for path in (*data.train.paths, *data.search.paths)} == {train}
    assert data.warnings == ()


@pytest.mark.parametrize(
    "name", ["steam", "trainer", "strain", "contest", "value", "devil", "train_test", "trainval", "pictures"]
)
def test_a_name_that_only_looks_like_a_split_is_none(name):
    assert part_name(name) is None


def test_trains_and_tests_may_be_classes(tmp_path):
    names = ("bullet_train", "steam_train", "crash_test", "tram")
    assert load_data(write_classes(tmp_path, classes=names)).classes == tuple(sorted(names))


def test_splits_in_folders_of_their_own_name_are_found(tmp_path):
    write_classes(tmp_path / "seg_train" / "seg_train")
    write_classes(tmp_path / "seg_test" / "seg_test", count=3)
    write(tmp_path / "seg_pred" / "seg_pred" / "0.png")
    data = load(tmp_path)
    assert (len(data.train), len(data.search), len(data.test)) == (16, 4, 6)
    assert any("seg_pred" in note for note in data.notes)


@pytest.mark.parametrize("wrapper", ["dataset", "PetImages", "flower_photos"])
def test_a_folder_that_only_wraps_the_classes_is_looked_into_and_it_is_said(tmp_path, wrapper):
    write_classes(tmp_path / wrapper)
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert any(wrapper in note for note in data.notes)


def test_a_folder_that_only_wraps_the_splits_is_looked_into(tmp_path):
    write_classes(tmp_path / "chest_xray" / "train")
    write_classes(tmp_path / "chest_xray" / "val", count=3)
    assert len(load_data(tmp_path).test) == 6


def test_a_split_that_is_a_link_to_another_is_not_read_twice(tmp_path):
    write_classes(tmp_path / "train")
    (tmp_path / "val").symlink_to(tmp_path / "train")
    data = load(tmp_path)
    assert len(used(data)) == len(set(used(data))) == 20
    assert "passed over 1 link to what is there already: val" in data.notes


def test_the_usual_name_of_a_split_comes_before_an_unusual_one(tmp_path):
    for name in ("train", "train_extra", "val", "dev"):
        write_classes(tmp_path / name)
    data = load(tmp_path)
    assert {path.split("/")[0] for path in used(data)} == {"train", "val"}
    assert "passed over dev, train_extra, beside train, val" in data.notes


@pytest.mark.parametrize(
    "names", [("train_1", "train_2", "test"), ("seg_train", "seg_test", "x_train", "x_test")]
)
def test_two_folders_for_one_split_are_refused(tmp_path, names):
    for name in names:
        write_classes(tmp_path / name)
    with pytest.raises(DataError, match=r"one folder must hold the train split, but .* are there"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    "names", [("first", "second"), ("2019", "2020", "2021"), ("trainval", "test"), ("A_train", "B_test")]
)
def test_classes_that_all_hold_the_same_subfolders_are_refused_with_both_readings(tmp_path, names):
    for name in names:
        write_classes(tmp_path / name)
    with pytest.raises(DataError) as refused:
        load_data(tmp_path)
    assert "If cat, dog are the classes" in str(refused.value)
    assert f"If {', '.join(sorted(names))} are the classes" in str(refused.value)


def test_classes_that_all_hold_train_and_test_are_refused(tmp_path):
    for name in ("cat", "dog"):
        write_classes(tmp_path / name, classes=("train", "test"))
    with pytest.raises(DataError, match="hold the same subfolders test, train"):
        load_data(tmp_path)


def test_classes_with_one_subfolder_each_are_classes(tmp_path):
    for name in ("cat", "dog"):
        write_classes(tmp_path / name, classes=("images",))
    assert load_data(tmp_path).classes == ("cat", "dog")


def test_splits_without_class_folders_are_refused(tmp_path):
    write_classes(tmp_path, classes=("train_images", "test_images"))
    with pytest.raises(DataError, match=r"look like splits, but train_images/ has no subfolder per class"):
        load_data(tmp_path)


def test_a_test_folder_without_classes_is_a_warning(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path, classes=("test",))
    data = load_data(tmp_path)
    assert data.warnings == ("skipped 10 images in test/, which has no subfolder per class",)
    assert (len(data.train), len(data.search), len(data.test)) == (12, 4, 4)


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_held_out_split_that_lacks_a_class_is_a_warning_with_the_count(tmp_path, has_folder):
    write_classes(tmp_path / "train", classes=("cat", "dog", "newt"))
    write_classes(tmp_path / "val", count=3)
    if has_folder:
        (tmp_path / "val" / "newt").mkdir()
    data = load_data(tmp_path)
    assert data.warnings == ("the test split lacks 1 of 3 classes: newt",)
    assert np.bincount(data.test.labels).tolist() == [3, 3]


def test_a_class_of_the_held_out_split_alone_is_refused(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "val", classes=("cat", "dog", "newt"), count=3)
    with pytest.raises(DataError, match="only val/ has newt"):
        load_data(tmp_path)
