import numpy as np
import pytest
from PIL import Image

from nas.data.decoding import Probe as Header
from nas.data.decoding import decode, probe
from nas.data.images import Reading
from nas.data.loading import Files, Pixels, load_data
from nas.data.survey import infer_resolution, native_side
from nas.errors import DataError


def write_image(path, size=(16, 16), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)


def write_classes(folder, classes=("cat", "dog"), count=20, **image):
    for name in classes:
        for number in range(count):
            seed = [number, *folder.name.encode(), *name.encode()]
            write_image(folder / name / f"{number:03}.png", seed=seed, **image)
    return folder


def test_class_subfolders_are_split_in_three(tmp_path):
    data = load_data(write_classes(tmp_path))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.search), len(data.test)) == (26, 6, 8)
    assert (data.channels, data.resolution) == (3, 16)
    assert data.notes == data.warnings == ()


def test_grey_images_have_one_channel(tmp_path):
    assert load_data(write_classes(tmp_path, mode="L")).channels == 1


def test_a_single_colour_image_makes_all_colour(tmp_path):
    write_classes(tmp_path, mode="L")
    write_image(tmp_path / "cat" / "colour.png")
    assert load_data(tmp_path).channels == 3


@pytest.mark.parametrize("held_out", ["val", "test", "Validation"])
def test_a_single_held_out_folder_is_the_test_split(tmp_path, held_out):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / held_out, count=3)
    data = load_data(tmp_path)
    assert (len(data.train), len(data.search), len(data.test)) == (32, 8, 6)


def test_with_both_val_and_test_val_is_the_search_split(tmp_path):
    for part, count in (("train", 20), ("val", 4), ("test", 3)):
        write_classes(tmp_path / part, count=count)
    data = load_data(tmp_path)
    assert (len(data.train), len(data.search), len(data.test)) == (40, 8, 6)


def test_a_class_may_be_called_train(tmp_path):
    data = load_data(write_classes(tmp_path, classes=("bus", "car", "train")))
    assert data.classes == ("bus", "car", "train")


def test_folders_beside_the_parts_are_passed_over_and_it_is_said(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "val")
    write_classes(tmp_path / "raw")
    assert load_data(tmp_path).notes == ("passed over raw, beside train, val",)


def test_an_image_is_the_same_decoded_at_once_or_read_later(tmp_path):
    write_classes(tmp_path)
    resident, streamed = load_data(tmp_path), load_data(tmp_path, resident_bytes=1_000)
    assert isinstance(resident.train, Pixels)
    assert isinstance(streamed.train, Files)
    assert "stay on disk" in streamed.notes[0]
    assert resident.fingerprint == streamed.fingerprint
    assert resident.split_fingerprint == streamed.split_fingerprint
    for index, path in enumerate(streamed.train.paths):
        assert (
            decode(tmp_path / path, Reading(channels=3, resolution=16)) == resident.train.images[index]
        ).all()
    np.testing.assert_allclose(streamed.mean, resident.mean)


def test_the_fingerprint_is_that_of_names_and_sizes(tmp_path):
    before = load_data(write_classes(tmp_path)).fingerprint
    assert load_data(tmp_path).fingerprint == before
    write_image(tmp_path / "cat" / "one_more.png")
    assert load_data(tmp_path).fingerprint != before


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="one subfolder of images per class"):
        load_data(tmp_path)


def test_an_empty_class_is_refused_by_name(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "notes.txt").write_text("none yet")
    with pytest.raises(DataError, match="bird"):
        load_data(tmp_path)


def test_a_single_class_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"at least 2 classes.*'cat'"):
        load_data(write_classes(tmp_path, classes=("cat",)))


def test_differing_classes_of_train_and_val_are_named(tmp_path):
    write_classes(tmp_path / "train", classes=("cat", "dog", "newt"))
    write_classes(tmp_path / "val", classes=("cat", "dog", "bird"))
    with pytest.raises(DataError, match="only train/ has newt; only val/ has bird"):
        load_data(tmp_path)


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    write_classes(tmp_path)
    write_image(tmp_path / ".cache" / "0.png")
    write_image(tmp_path / "cat" / "._0.png")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.search) + len(data.test) == 40


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("resident_bytes", [1 << 30, 1_000])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_few_damaged_images_are_skipped_and_named(tmp_path, suffix, resident_bytes):
    write_classes(tmp_path, count=100)
    write_image(tmp_path / "cat" / f"broken.{suffix}")
    truncate(tmp_path / "cat" / f"broken.{suffix}")
    data = load_data(tmp_path, resident_bytes=resident_bytes)
    assert len(data.train) + len(data.search) + len(data.test) == 200
    assert data.warnings == (f"skipped 1 of 201 images that cannot be read: cat/broken.{suffix}",)


def test_damage_in_the_middle_is_found_when_the_image_is_decoded(tmp_path):
    write_classes(tmp_path, count=100)
    path = tmp_path / "cat" / "000.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + b"\0" * 60 + whole[120:])
    assert load_data(tmp_path).warnings == ("skipped 1 of 200 images that cannot be read: cat/000.png",)


def test_more_than_one_percent_damaged_images_are_refused(tmp_path):
    write_classes(tmp_path, count=50)
    for number in (3, 4):
        (tmp_path / "dog" / f"{number:03}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"at most 1% .* but 2 of 100 are: dog/003.png, dog/004.png"):
        load_data(tmp_path)


def test_a_class_that_is_empty_after_skipping_is_refused(tmp_path):
    write_classes(tmp_path, count=200)
    (tmp_path / "newt").mkdir()
    (tmp_path / "newt" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="newt"):
        load_data(tmp_path)


def test_mixed_sizes_are_brought_to_the_rounded_median_and_it_is_said(tmp_path):
    for number, side in enumerate((20, 22, 24, 26, 60)):
        write_classes(tmp_path / str(number % 2), classes=(str(side),), count=10, size=(side, side + 3))
    data = load_data(tmp_path)
    assert data.resolution == 24
    assert data.train.images.shape[1:] == (3, 24, 24)
    assert "20 to 63 pixels a side are resized and centre-cropped to 24 x 24" in data.notes[0]


def test_a_resolution_asked_for_leaves_nothing_to_say(tmp_path):
    data = load_data(write_classes(tmp_path), resolution=12)
    assert data.train.images.shape[1:] == (3, 12, 12)
    assert data.notes == ()


@pytest.mark.parametrize(
    ("sides", "expected"),
    [([28, 28], 28), ([100, 110, 130], 96), ([640, 700], 224), ([500, 500], 224), ([3, 5], 8)],
)
def test_the_resolution_is_inferred_from_the_shorter_sides(sides, expected):
    headers = [Header(height=side, width=side, is_grey=False) for side in sides]
    assert infer_resolution(headers)[0] == expected


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 0x4000, dtype=np.uint16)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", Reading(channels=1, resolution=8)) == 0x40).all()
    assert probe(tmp_path / "a.png").is_grey


def test_an_image_is_turned_as_its_exif_tag_says(tmp_path):
    image = Image.fromarray(np.array([[0, 255], [0, 255]], dtype=np.uint8).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    turned = decode(tmp_path / "a.png", Reading(channels=1, resolution=16))[0]
    assert turned[:8].max() == 0
    assert turned[8:].min() == 255


def test_loading_says_how_many_images_were_read(tmp_path):
    said = []
    load_data(write_classes(tmp_path), progress=said.append)
    assert said == [f"{verb} {n} of 40 images" for verb in ("looked at", "decoded") for n in (20, 40)]


@pytest.mark.parametrize(("fit", "side"), [("crop", 100), ("pad", 400), ("stretch", 200)])
def test_the_native_side_is_the_median_of_the_sides_that_a_fit_keeps(fit, side):
    assert native_side([(100, 400), (400, 100), (300, 900)], fit) == pytest.approx(side)


def test_data_know_the_native_side_of_their_images_whatever_they_are_read_at(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "pack.npz", train_images=images, train_labels=np.arange(40) % 2)
    data = load_data(tmp_path / "pack.npz", resolution=48)
    assert (data.resolution, data.native_side) == (48, 24.0)
