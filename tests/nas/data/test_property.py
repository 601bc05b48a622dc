"""Random folders of images: every file is used as Pillow renders it, or named; no image is in two splits."""

import io
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nas.data.decoding import decode
from nas.data.loading import load_data
from nas.data.tree import is_hidden, printable
from nas.errors import DataError

RESOLUTION = 8
BASE = 60  # sound images of each class, so that one damaged file is tolerated
# The modes that each format can hold.
MODES = {
    "PNG": ("L", "RGB", "P", "1", "RGBA", "LA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("L", "RGB", "P", "1"),
    "TIFF": ("L", "RGB", "P", "1", "CMYK", "RGBA", "LA", "LAB", "I;16", "I", "F"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("L", "RGB", "1"),
    "TGA": ("L", "RGB"),
    "JPEG2000": ("L", "RGB"),
    "ICO": ("RGB",),
}
SUFFIXES = (
    "",
    ".png",
    ".JPG",
    ".jpeg",
    ".bmp",
    ".tif",
    ".gif",
    ".webp",
    ".jfif",
    ".tga",
    ".jp2",
    ".txt",
    ".",
)
HIDDEN = (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "$RECYCLE.BIN", "lost+found")
WHERE = ("", "cat", "dog", "cat/a", "dog/b c/d", "cat/tr\u00e8s.png")


@dataclass(frozen=True, kw_only=True)
class Extra:
    """A file beside the sound ones.

    Attributes:
        kind: What it is; see `make`.
        where: The folder, below that of the classes.
        name: The bytes of its name, but for the suffix.
        suffix: One of `SUFFIXES`.
        form: A format of Pillow's.
        mode: A mode that the format can hold.
        size: Width and height in pixels.
        number: Decides colours, and which sound image is meant by a link or a copy.
    """

    kind: str
    where: str
    name: bytes
    suffix: str
    form: str
    mode: str
    size: tuple[int, int]
    number: int


def is_name(name):
    return name not in {b"", b".", b".."} and not {0, ord("/")} & set(name) and len(name) < 200


names = st.one_of(
    st.text(min_size=1, max_size=12).map(lambda text: text.encode("utf-8", "ignore")),
    st.binary(min_size=1, max_size=8),
    st.sampled_from([b"plain", b"with space", b".hidden", b"._apple", b"Thumbs", b"line\nbreak", b"caf\xe9"]),
).filter(is_name)


@st.composite
def extras(draw):
    form = draw(st.sampled_from(sorted(MODES)))
    kinds = (
        ["image"] * 4
        + ["copy"] * 2
        + [
            "broken",
            "random",
            "empty",
            "copy",
            "hidden",
            "link",
            "outside",
            "dangling",
            "loop",
        ]
    )
    return Extra(
        kind=draw(st.sampled_from(kinds)),
        where=draw(st.sampled_from(WHERE)),
        name=draw(names),
        suffix=draw(st.sampled_from(SUFFIXES)),
        form=form,
        mode=draw(st.sampled_from(MODES[form])),
        size=draw(st.tuples(st.integers(1, 70), st.integers(1, 70))),
        number=draw(st.integers(0, 10**6)),
    )


def render(number, size, mode):
    """A smooth image, which loses little where it is decoded at a part of its size."""
    corners = np.random.default_rng([7, number]).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)
    if mode in ("RGBA", "LA"):
        image.putalpha(render(number + 1, size, "L"))
    return image.convert("L").convert(mode) if mode in ("I;16", "I", "F") else image.convert(mode)


def encode(image, form):
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


@cache
def sound(number):
    return encode(render(10**7 + number, (RESOLUTION, RESOLUTION), "RGB"), "PNG")


def make(root, outside, extra, index):
    """Writes a file, and returns the path that must be used or named."""
    folder = root / extra.where
    folder.mkdir(parents=True, exist_ok=True)
    name = os.fsdecode(extra.name) + f"~{index}" + extra.suffix
    path = folder / name
    content = encode(render(extra.number, extra.size, extra.mode), extra.form)
    base = root / "cat" / f"{extra.number % BASE:03}.png"
    if extra.kind == "hidden":
        path = folder / HIDDEN[extra.number % len(HIDDEN)]
        path.mkdir(exist_ok=True)
        (path / name).write_bytes(base.read_bytes())
    elif extra.kind in ("link", "outside", "dangling", "loop"):
        (outside / str(index)).write_bytes(content)
        targets = {"link": base, "outside": outside / str(index), "dangling": outside / "none", "loop": root}
        path.symlink_to(targets[extra.kind])
    else:
        broken = content[: extra.number % len(content)]
        noise = np.random.default_rng(extra.number).bytes(100)
        contents = {"broken": broken, "random": noise, "empty": b"", "copy": base.read_bytes()}
        path.write_bytes(contents.get(extra.kind, content))
    return str(path.relative_to(root))


def parts_of(data):
    return {name: data.split(name) for name in ("train", "search", "test")}


def as_seen(image):
    """What a person sees: transparent parts on white, and values of 0 to 255 as they are."""
    if image.mode in ("I;16", "I", "F"):
        return Image.fromarray(np.asarray(image).astype(np.uint8))
    if image.mode in ("RGBA", "LA"):
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB") if image.mode == "LAB" else image


def assert_near_pillow(path, reading):
    """The pixels are those that Pillow shows, but for JPEG files decoded at a fraction of their size."""
    with Image.open(path) as image:
        shape = "L" if reading.channels == 1 else "RGB"
        seen = as_seen(image).convert(shape)
        expected = ImageOps.fit(seen, (RESOLUTION, RESOLUTION), Image.Resampling.BILINEAR)
    pixels = decode(path, reading).transpose(1, 2, 0).squeeze().astype(int)
    assert np.abs(pixels - np.asarray(expected)).mean() < 16, printable(str(path))


def assert_law(root, paths):
    refusal = ""
    try:
        resident = load_data(root, resolution=RESOLUTION)
        data = load_data(root, resolution=RESOLUTION, resident_bytes=1)
    except DataError as error:
        refusal = str(error)
    if refusal:  # more damaged files than are tolerated
        assert "may be unreadable" in refusal
        assert any(printable(path) in refusal for path in paths)
        assert refusal.isprintable()
        return
    text = [*data.notes, *data.warnings]
    assert all(line.isprintable() for line in text)
    parts = parts_of(data)
    used = [path for part in parts.values() for path in part.paths]
    assert len(used) == len(set(used))
    by_content = {name: {(root / path).read_bytes() for path in part.paths} for name, part in parts.items()}
    assert sum(map(len, by_content.values())) == len(set.union(*by_content.values()))
    unused = set(paths) - set(used)
    for path in unused:
        name = path.rpartition("/")[2]
        listed = [line for line in text if (printable(name) if is_hidden(name) else printable(path)) in line]
        assert listed or len(unused) > 5, f"{path!r} is neither used nor named in {text}"
    counts = [
        re.match(r"(?:passed over |skipped |)([\d,]+) (?!.*stay on disk)(?!.*\bcop(?:y|ies)\b)", line)
        for line in text
    ]
    assert sum(int(found[1].replace(",", "")) for found in counts if found) == len(unused), text
    for name, part in parts.items():
        for index, path in enumerate(part.paths):
            if "~" in path:
                assert_near_pillow(root / path, data.reading)
            expected = decode(root / path, data.reading)
            assert (resident.split(name).images[index] == expected).all()


def check(files, *, held_out):
    folder = Path(tempfile.mkdtemp())
    try:
        root, outside = folder / "set", folder / "outside"
        outside.mkdir()
        below = root / "train_images" if held_out else root
        for label, name in enumerate(("cat", "dog")):
            for number in range(BASE):
                path = below / name / f"{number:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(sound(label * BASE + number))
            if held_out:
                (root / "val_images" / name).mkdir(parents=True)
                (root / "val_images" / name / "0.png").write_bytes(sound(2 * BASE + label))
        prefix = "train_images/" if held_out else ""
        paths = sorted({prefix + make(below, outside, extra, i) for i, extra in enumerate(files)})
        assert_law(root, paths)
    finally:
        shutil.rmtree(folder)


quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]


@seed(0)
@settings(max_examples=25, deadline=None, database=None, suppress_health_check=quiet)
@given(files=st.lists(extras(), min_size=3, max_size=5), held_out=st.booleans())
def test_every_file_is_used_or_named(files, held_out):
    check(files, held_out=held_out)


@pytest.mark.slow
@seed(1)
@settings(max_examples=80, deadline=None, database=None, suppress_health_check=quiet)
@given(files=st.lists(extras(), min_size=3, max_size=30), held_out=st.booleans())
def test_every_file_of_many_is_used_or_named(files, held_out):
    check(files, held_out=held_out)
