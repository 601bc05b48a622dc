"""A whole image is opened as it is decoded for training, only not yet square."""

import os

import numpy as np
import pytest
from PIL import Image

from nas.data.decoder import fit_square
from nas.data.decoding import decode, open_image, probe
from nas.data.images import Reading

ORIENTATION = 0x0112


def noise(height, width, channels=3):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng([height, width, channels]).integers(0, 256, shape, dtype=np.uint8)


IMAGES = {
    "1 png": lambda: Image.fromarray(noise(30, 41, 1)).convert("1"),
    "L jpg": lambda: Image.fromarray(noise(30, 41, 1)),
    "LA png": lambda: Image.fromarray(noise(30, 41, 4)).convert("LA"),
    "P gif": lambda: Image.fromarray(noise(30, 41)).quantize(16),
    "RGB jpg": lambda: Image.fromarray(noise(300, 410)),
    "RGBA png": lambda: Image.fromarray(noise(30, 41, 4)),
    "CMYK jpg": lambda: Image.fromarray(noise(30, 41, 4), mode="CMYK"),
    "LAB tif": lambda: Image.fromarray(noise(30, 41), mode="LAB"),
    "16 bits png": lambda: Image.fromarray(256 * noise(30, 41, 1).astype(np.uint16)),
    "float tif": lambda: Image.fromarray(noise(30, 41, 1).astype(np.float32)),
}


def written(folder, name):
    path = folder / f"a.{name.split()[-1]}"
    IMAGES[name]().save(path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_whole_image_made_square_is_what_training_decodes(tmp_path, name, fit, channels):
    reading = Reading(channels=channels, resolution=16, fit=fit)
    path = written(tmp_path, name)
    whole = open_image(path, reading, least_side=2 * 16)
    assert whole.mode == ("L" if channels == 1 else "RGB")
    square = np.asarray(fit_square(whole, 16, fit)).reshape(16, 16, channels)
    assert (square.transpose(2, 0, 1) == decode(path, reading)).all()


@pytest.mark.parametrize(
    ("least_side", "size"), [(None, (410, 300)), (300, (410, 300)), (75, (103, 75)), (76, (205, 150))]
)
def test_a_jpeg_comes_no_smaller_than_the_least_side(tmp_path, least_side, size):
    path = written(tmp_path, "RGB jpg")
    assert open_image(path, Reading(channels=3, resolution=8), least_side=least_side).size == size


def test_a_whole_image_is_upright_and_outlives_its_file(tmp_path):
    path, pixels = tmp_path / "a.png", noise(5, 9)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels).save(path, exif=exif)
    whole = open_image(path.read_bytes(), Reading(channels=3, resolution=8))
    path.unlink()
    assert (np.asarray(whole) == np.rot90(pixels, -1)).all()
    assert ORIENTATION not in whole.getexif()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program of Ghostscript's name that leaves a file behind when it runs."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return tmp_path / "ran"


def test_postscript_under_the_name_of_a_photo_is_unreadable_and_not_run(tmp_path, ghostscript):
    path = tmp_path / "photo.jpg"
    path.write_bytes(POSTSCRIPT)
    assert probe(path) is None
    for read in (decode, open_image):
        with pytest.raises(ValueError, match="EPS"):
            read(path, Reading(channels=3, resolution=8))
    assert not ghostscript.exists()


def test_an_image_of_a_billion_pixels_is_unreadable_whatever_limit_pillow_has(tmp_path, monkeypatch):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 40000 25000 255\n" + bytes(100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert probe(path) is None
    with pytest.raises(ValueError, match="40,000 x 25,000"):
        decode(path, Reading(channels=1, resolution=8))
