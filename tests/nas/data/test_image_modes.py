"""Images of every mode and shape become the pixels that a person would see, in training and elsewhere."""

import json
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from nas.data.decoding import decode, probe
from nas.data.images import Files, Pixels, Reading
from nas.data.loading import from_arrays, load_data
from nas.errors import DataError, ExportError
from nas.export.preprocessing import Preprocessing

SIDE = 12


def ramp(greatest, dtype, side=SIDE):
    """A picture that rises evenly from 0 to the greatest value."""
    return np.linspace(0, greatest, side * side).reshape(side, side).astype(dtype)


def write_set(folder, make, suffix="png", count=10):
    """Two classes of images, each made of its number; those of the second class count from 100."""
    for first, kind in ((0, "cat"), (100, "dog")):
        (folder / kind).mkdir()
        for number in range(count):
            make(first + number).save(folder / kind / f"{number:02}.{suffix}")
    return folder


def noise(number, channels=3, side=SIDE):
    shape = (side, side) if channels == 1 else (side, side, channels)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def with_alpha(number):
    """Nothing but a pattern in the alpha channel, below two empty rows."""
    pixels = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    pixels[2:, :, 3] = 255 * (noise(number, 1)[2:] > 127)
    return Image.fromarray(pixels)


DRAWN = {
    "RGBA": with_alpha,
    "LA": lambda number: with_alpha(number).convert("LA"),
}


@pytest.mark.parametrize("mode", DRAWN)
def test_a_drawing_in_alpha_alone_is_seen_on_white_and_it_is_said_once(tmp_path, mode):
    data = load_data(write_set(tmp_path, DRAWN[mode]))
    assert data.train.images.max() == 255
    assert data.train.images.min() == 0
    assert (data.train.images[0][:, :2] == 255).all()
    assert data.notes == ("the transparent parts of 20 images become white",)


def test_a_palette_with_a_transparent_colour_is_seen_on_white(tmp_path):
    def make(number):
        image = Image.fromarray(np.full((SIDE, SIDE), 1, dtype=np.uint8) * (noise(number, 1) > 99))
        image = image.convert("P")
        image.putpalette([0, 0, 0, 200, 0, 0])
        image.info["transparency"] = 0
        return image

    data = load_data(write_set(tmp_path, make))
    assert {tuple(pixel) for pixel in data.train.images[0].reshape(3, -1).T} == {(255,) * 3, (200, 0, 0)}
    assert "transparent parts of 20 images" in data.notes[0]


def old_decode(path, channels, side):
    """How images became pixels before modes were looked at; right for all that have 8 bits and are opaque."""
    with Image.open(path) as opened:
        opened.draft(None, (2 * side, 2 * side))
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("P", "LA", "PA"):
            image = image.convert("RGBA")
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (side, side):
            image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("1", "png"),
        ("L", "png"),
        ("L", "jpg"),
        ("P", "gif"),
        ("P", "png"),
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("RGB", "webp"),
        ("RGB", "bmp"),
        ("RGBA", "png"),
        ("LA", "png"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
    ],
)
def test_opaque_images_of_8_bits_keep_their_pixels(tmp_path, mode, suffix, channels):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(0, side=97)[:60]).convert(mode).save(path)
    found = decode(path, Reading(channels=channels, resolution=24))
    assert (found == old_decode(path, channels, 24)).all()
    assert not probe(path).is_transparent


def test_opaque_alpha_changes_neither_notes_nor_fingerprint(tmp_path):
    data = load_data(write_set(tmp_path, lambda number: Image.fromarray(noise(number)).convert("RGBA")))
    assert data.notes == ()
    assert data.reading.marks == ()


DEEP = [
    (4095, np.uint16, "png", 12),
    (4095, np.uint16, "tif", 12),
    (4095, ">u2", "tif", 12),
    (4095, np.uint16, "pgm", 12),
    (65535, np.uint16, "png", 16),
    (1023, np.uint16, "tif", 10),
    (16000, np.uint16, "tif", 14),
    (200, np.uint16, "png", 8),
    (200, np.int32, "tif", 8),
    (4095, np.int32, "tif", 12),
    (2**20 - 1, np.int32, "tif", 20),
    (2**31 - 1, np.int32, "tif", 32),
]


@pytest.mark.parametrize("resident_bytes", [1 << 30, 1])
@pytest.mark.parametrize(("greatest", "dtype", "suffix", "bits"), DEEP)
def test_deep_images_are_scaled_by_the_bits_that_the_sets_largest_value_needs(
    tmp_path, greatest, dtype, suffix, bits, resident_bytes
):
    whole, dim = ramp(greatest, dtype), ramp(greatest // 4, dtype)
    write_set(tmp_path, lambda number: Image.fromarray(whole if number % 100 == 3 else dim), suffix)
    data = load_data(tmp_path, resident_bytes=resident_bytes)
    assert data.reading.bits == bits
    assert data.channels == 1
    for name, values in (("03", whole), ("04", dim)):
        pixels = decode(tmp_path / "cat" / f"{name}.{suffix}", data.reading)[0]
        expected = values.astype(float) / 2.0 ** (bits - 8)
        assert np.abs(pixels - expected).max() <= 1
    assert f"scaled by {bits} bits" in " ".join(data.notes)
    assert f"{greatest}," in " ".join(data.notes)


def test_images_of_16_bits_keep_their_fingerprint_and_others_change_it(tmp_path):
    digests = {}
    for greatest in (65535, 65534, 4095):
        folder = tmp_path / str(greatest)
        folder.mkdir()
        values = ramp(greatest, np.uint16)
        write_set(folder, lambda _, values=values: Image.fromarray(values), "tif")
        digests[greatest] = load_data(folder).content_digest
    assert digests[65535] == digests[65534] != digests[4095]  # names and sizes are equal


@pytest.mark.parametrize(("greatest", "white"), [(1.0, 1.0), (0.5, 1.0), (255.0, 255.0), (90.5, 255.0)])
def test_floating_point_images_are_read_as_0_to_1_or_0_to_255_by_the_whole_set(tmp_path, greatest, white):
    values = ramp(greatest, np.float32)
    write_set(tmp_path, lambda number: Image.fromarray(values if number % 100 == 3 else values / 200), "tif")
    data = load_data(tmp_path)
    for name, expected in (("03", values), ("04", values / 200)):
        pixels = decode(tmp_path / "dog" / f"{name}.tif", data.reading)[0]
        np.testing.assert_allclose(pixels, expected * 255 / white, atol=0.51)
    assert f"read as 0 to {white:g}" in " ".join(data.notes)


@pytest.mark.parametrize(("dtype", "greatest"), [(np.uint16, 65535), (np.int32, 2**30), (np.float32, 200.0)])
def test_images_that_the_scale_of_the_set_leaves_black_are_named(tmp_path, dtype, greatest):
    few = ramp(1 if dtype is np.float32 else 200, dtype)
    write_set(
        tmp_path, lambda number: Image.fromarray(few if number % 100 == 2 else ramp(greatest, dtype)), "tif"
    )
    warning = load_data(tmp_path).warnings[0]
    assert "nothing is seen in 2 images" in warning
    assert "cat/02.tif, dog/02.tif" in warning


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (-0.5, np.float32),
        (np.nan, np.float32),
        (np.inf, np.float32),
        (300.0, np.float32),
        (1.02, np.float32),
        (-3, np.int32),
    ],
)
@pytest.mark.parametrize("resident_bytes", [1 << 30, 1])
def test_values_that_no_scale_fits_are_refused_by_name_with_the_remedy(
    tmp_path, value, dtype, resident_bytes
):
    def make(number):
        values = ramp(1, dtype)
        values[5, 5] = value if number == 7 else values[5, 5]
        return Image.fromarray(values)

    with pytest.raises(DataError, match=r"cat/07\.tif.*(offset|rescale)"):
        load_data(write_set(tmp_path, make, "tif"), resident_bytes=resident_bytes)


@pytest.mark.parametrize(
    "mode", ["LAB", "HSV", "YCbCr", "CMYK", "RGBX", "PA", "RGBa", "I;16B", "I;16L", "F", "1"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_mode_become_grey_or_colour(tmp_path, mode, channels, monkeypatch):
    made = Image.new(mode, (SIDE, SIDE))
    monkeypatch.setattr(Image, "open", lambda _: made)
    found = decode(tmp_path / "any", Reading(channels=channels, resolution=SIDE, float_white=1.0))
    assert found.shape == (channels, SIDE, SIDE)


def test_lab_files_in_a_grey_set_look_as_in_colour(tmp_path):
    lab = Image.frombytes(
        "LAB",
        (SIDE, SIDE),
        bytes(np.dstack([noise(1, 1), *[np.full((SIDE, SIDE), 128)] * 2]).astype(np.uint8)),
    )
    lab.save(tmp_path / "a.tif")
    colour = decode(tmp_path / "a.tif", Reading(channels=3, resolution=SIDE))
    grey = decode(tmp_path / "a.tif", Reading(channels=1, resolution=SIDE))
    seen = Image.fromarray(colour.transpose(1, 2, 0)).convert("L")
    assert (np.asarray(seen) == grey[0]).all()


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_of_several_frames_the_first_is_used_and_it_is_said(tmp_path, suffix):
    def frames(number):
        return [Image.fromarray(noise(number + 50 * frame, 1) // 2 + 100 * frame) for frame in range(2)]

    write_set(tmp_path, lambda number: frames(number)[0], "bmp")
    for number, kind in ((98, "cat"), (99, "dog")):
        first, second = frames(number)
        first.save(tmp_path / kind / f"moving.{suffix}", save_all=True, append_images=[second])
    data = load_data(tmp_path)
    assert data.notes == ("of 2 images with several frames or pages, the first is used",)
    assert decode(tmp_path / "cat" / f"moving.{suffix}", data.reading).max() < 130


def test_colour_of_16_bits_is_said_to_be_cut_and_found_dark_where_only_12_are_used(tmp_path):
    def write_png(path, values):
        """A PNG of 16 bits a channel, which Pillow cannot write."""
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        header = np.array([SIDE, SIDE], dtype=">u4").tobytes() + bytes([16, 2, 0, 0, 0])
        data = b"\x89PNG\r\n\x1a\n"
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            data += len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        path.write_bytes(data)

    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for number in range(10):
            rng = np.random.default_rng([number, kind == "cat"])
            values = rng.integers(0, 4096, (SIDE, SIDE, 3))
            write_png(tmp_path / kind / f"{number}.png", values)
    data = load_data(tmp_path)
    assert data.notes == ("of 20 images in colour with 16 bits a channel, the upper 8 bits are used",)
    assert "nearly black: the largest value is 15 of 255" in data.warnings[0]


CONSTANT = {
    "the same picture": lambda _: Image.fromarray(noise(0)),
    "a single colour each": lambda number: Image.fromarray(np.full((SIDE, SIDE, 3), number, np.uint8)),
}


@pytest.mark.parametrize("resident_bytes", [1 << 30, 1])
@pytest.mark.parametrize("words", CONSTANT)
def test_images_from_which_nothing_can_be_learnt_are_warned_of(tmp_path, words, resident_bytes):
    data = load_data(write_set(tmp_path, CONSTANT[words]), resident_bytes=resident_bytes)
    assert words in data.warnings[-1]


def test_one_picture_that_differs_silences_the_warning(tmp_path):
    write_set(tmp_path, lambda number: Image.fromarray(noise(number == 4)))
    assert "picture" not in " ".join(load_data(tmp_path).warnings)


def stripes(number, size=(400, 30)):
    """Wide images, black at the left end and white at the right."""
    row = np.linspace(0, 240, size[0])
    row[0] = number
    return Image.fromarray(np.tile(row, (size[1], 1)).astype(np.uint8))


def test_a_wide_image_is_cropped_padded_or_stretched_as_asked(tmp_path):
    write_set(tmp_path, stripes)
    first = {
        fit: load_data(tmp_path, resolution=40, fit=fit).train.images[0, 0].astype(int)
        for fit in ("crop", "pad", "stretch")
    }
    assert np.ptp(first["crop"][20]) < 30  # a tenth of the picture
    assert np.ptp(first["stretch"][20]) > 220
    assert np.ptp(first["pad"][20]) > 220
    assert (first["pad"][:18] == 0).all()
    assert (first["pad"][22:] == 0).all()


def test_a_crop_of_wide_images_says_what_it_cuts_and_names_the_option(tmp_path):
    notes = " ".join(load_data(write_set(tmp_path, stripes), resolution=32).notes)
    assert "--fit crop, the default, cuts off 92% of a picture" in notes
    assert "--fit pad or --fit stretch" in notes
    for fit in ("pad", "stretch"):
        assert load_data(tmp_path, resolution=32, fit=fit).notes == ()


@pytest.mark.parametrize(("fit", "side"), [("crop", 32), ("pad", 224), ("stretch", 96)])
def test_the_inferred_resolution_is_that_of_the_side_that_is_kept(tmp_path, fit, side):
    assert load_data(write_set(tmp_path, stripes), fit=fit).resolution == side


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 5), (1, 1)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_of_any_shape_become_square(tmp_path, size, fit):
    Image.new("RGB", size, "white").save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", Reading(channels=3, resolution=8, fit=fit))
    assert found.shape == (3, 8, 8)
    assert found.max() == 255


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_arrays_that_are_not_square_are_fitted_as_files_are_and_a_crop_is_said(tmp_path, fit):
    arrays = np.stack([np.asarray(stripes(number, (40, 30))) for number in range(20)])
    np.savez(tmp_path / "a.npz", train_images=arrays, train_labels=np.arange(20) % 2)
    packed = load_data(tmp_path / "a.npz", fit=fit)
    given = from_arrays(arrays, np.arange(20) % 2, fit=fit)
    assert packed.fingerprint == given.fingerprint
    assert packed.resolution == {"crop": 30, "pad": 40, "stretch": 35}[fit]
    where = tmp_path / "one.png"
    Image.fromarray(arrays[0]).save(where)
    everything = np.concatenate([part.images for part in (packed.train, packed.search, packed.test)])
    assert any((decode(where, packed.reading) == image).all() for image in everything)
    said = " ".join(packed.notes)
    assert ("cuts off 25% of a picture" in said) == (fit == "crop")


def test_only_another_fit_than_crop_is_part_of_the_fingerprint(tmp_path):
    write_set(tmp_path, lambda number: Image.fromarray(noise(number)))
    prints = {load_data(tmp_path, fit=fit).fingerprint for fit in ("crop", "pad", "stretch")}
    assert len(prints) == 3
    assert load_data(tmp_path).fingerprint == load_data(tmp_path, fit="crop").fingerprint


def test_an_unknown_fit_is_refused(tmp_path):
    write_set(tmp_path, stripes)
    with pytest.raises(DataError, match=r"fit in \('crop', 'pad', 'stretch'\)"):
        load_data(tmp_path, fit="squeeze")


def write_bomb(path, side=32_000):
    """A small PNG of 10^9 grey pixels."""
    body = zlib.compressobj(9)
    packed = b"".join(body.compress(bytes(side + 1)) for _ in range(200)) + body.flush()
    header = np.array([side, side], dtype=">u4").tobytes() + bytes([8, 0, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
        data += len(content).to_bytes(4, "big") + kind + content
        data += zlib.crc32(kind + content).to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize("resident_bytes", [1 << 30, 1])
def test_an_image_of_a_billion_pixels_is_a_named_skipped_file(tmp_path, resident_bytes):
    write_set(tmp_path, lambda number: Image.fromarray(noise(number)))
    write_bomb(tmp_path / "dog" / "bomb.png")
    data = load_data(tmp_path, resident_bytes=resident_bytes)
    assert data.warnings == ("skipped 1 of 21 images that cannot be read: dog/bomb.png",)


@pytest.mark.parametrize("resident_bytes", [1 << 30, 1])
def test_one_damaged_file_of_a_small_set_is_skipped_and_two_are_refused(tmp_path, resident_bytes):
    write_set(tmp_path, lambda number: Image.fromarray(noise(number)), count=25)
    (tmp_path / "cat" / "03.png").write_bytes(b"no image")
    data = load_data(tmp_path, resident_bytes=resident_bytes)
    assert data.warnings == ("skipped 1 of 50 images that cannot be read: cat/03.png",)
    (tmp_path / "dog" / "05.png").write_bytes(b"none either")
    with pytest.raises(DataError, match=r"2 of 50 are: cat/03\.png, dog/05\.png"):
        load_data(tmp_path, resident_bytes=resident_bytes)


def test_truncated_images_are_not_loaded_by_other_programs_because_of_us():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "ppm", "avif", "jp2"])
def test_files_damaged_anywhere_are_read_or_skipped_but_never_an_error(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(noise(0, side=24)).save(whole)
    data = whole.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(1, len(data) + 1)])
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(0, 256)
        found = probe(bytes(damaged))
        assert found is None or found.width > 0


def test_a_preprocessing_of_an_earlier_version_is_read_as_it_was_meant():
    text = '{"resolution": 8, "channels": 1, "mean": [0.5], "std": [0.2], "classes": ["a", "b"], "mode": "L"}'
    found = Preprocessing.from_json(text)
    assert found.reading == Reading(
        channels=1, resolution=8, fit="crop", bits=16, float_white=255, background=None
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 2),
        ("resolution", 0),
        ("resolution", 8.5),
        ("fit", "zoom"),
        ("bits", 4),
        ("bits", "x"),
        ("float_white", 7),
        ("background", 256),
    ],
)
def test_a_reading_out_of_range_is_refused_in_memory_and_in_a_file(field, value):
    with pytest.raises(DataError, match=field) as found:
        Reading(**{"channels": 1, "resolution": 8, field: value})
    assert found.value.field == field
    facts = {"resolution": 8, "channels": 1, "mean": [0.5], "std": [0.2], "classes": ["a", "b"]}
    with pytest.raises(ExportError, match=field) as found:
        Preprocessing.from_json(json.dumps({**facts, field: value}))
    assert found.value.field == field


def test_parts_are_of_the_kind_that_the_test_says(tmp_path):
    write_set(tmp_path, stripes)
    assert isinstance(load_data(tmp_path).train, Pixels)
    assert isinstance(load_data(tmp_path, resident_bytes=1).train, Files)
