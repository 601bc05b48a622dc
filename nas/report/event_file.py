"""TensorBoard's file format as far as we use it: scalars, text, images, chart layouts, continued runs.

It uses tensorboard's own record writer and messages, so that the driver loads no torch.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as charts_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from nas.errors import StudyError
from nas.reading import read_bytes

Value = Any
"""A `Summary.Value` message: one entry under one tag. tensorboard ships no types."""

NAME = "events.out.tfevents.{number:010d}.mnas"
PATTERN = re.compile(r"events\.out\.tfevents\.(\d{1,18})\b")
FILE_VERSION = "brain.Event:2"


def scalar(name: str, value: float) -> Value:
    """A number, kept in 32 bits (seven digits)."""
    return summary_pb2.Summary.Value(tag=name, simple_value=float(value))


def text(name: str, markdown: str) -> Value:
    """A text in Markdown."""
    return _string(name, markdown.encode(), text_metadata.create_summary_metadata(name, ""), (1,))


def image(name: str, png: bytes) -> Value:
    """A picture, given as a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    picture = summary_pb2.Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    return summary_pb2.Summary.Value(tag=name, image=picture)


def charts(categories: Mapping[str, Mapping[str, Sequence[str]]]) -> Value:
    """The layout of the Custom Scalars page: category, chart, and the tags that are its lines."""
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(title=category, chart=[_chart(title, tags) for title, tags in lines.items()])
            for category, lines in categories.items()
        ]
    )
    return _string(
        charts_metadata.CONFIG_SUMMARY_TAG,
        layout.SerializeToString(),
        charts_metadata.create_summary_metadata(),
    )


def _chart(title: str, tags: Sequence[str]) -> Any:
    patterns = [f"^{re.escape(name)}$" for name in tags]
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=patterns))


def _string(name: str, content: bytes, metadata: object, shape: Sequence[int] = ()) -> Value:
    sizes = tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    )
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[content], tensor_shape=sizes)
    return summary_pb2.Summary.Value(tag=name, metadata=metadata, tensor=tensor)


class EventFile:
    """One more event file in a folder; TensorBoard reads all of them as one run, in order of their names.

    Every record is in the operating system's hands when `write` returns: a killed process loses none.

    Args:
        folder: Made where it is missing.
        first_step: The step that comes next. What earlier files say of it and of later steps is void.

    Raises:
        StudyError: The file cannot be made.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = (PATTERN.match(path.name) for path in folder.iterdir())
            number = 1 + max((int(match[1]) for match in found if match), default=0)
            self.path = folder / NAME.format(number=number)
            self._file = self.path.open("xb")
        except OSError as error:
            raise _explained(folder, error) from error
        self._records = RecordWriter(self._file)
        self._append(event_pb2.Event(wall_time=time.time(), file_version=FILE_VERSION))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(event_pb2.Event(wall_time=time.time(), step=first_step, session_log=start))

    def write(self, step: int, values: Sequence[Value]) -> None:
        """Appends everything that is said at one step, as one record.

        Raises:
            StudyError: The disk is full or gone.
        """
        summary = summary_pb2.Summary(value=values)
        self._append(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._file.close()

    def _append(self, event: Any) -> None:
        try:
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            raise _explained(self.path, error) from error


def read_scalars(folder: Path, names: Collection[str]) -> dict[str, dict[int, float]]:
    """Some scalars of a folder's event files by tag and step; what cannot be read is left out.

    Args:
        folder: Where event files are; it may be missing.
        names: The tags.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    paths = sorted(path for path in folder.glob("events.out.tfevents.*") if PATTERN.match(path.name))
    for path in paths:
        for event in _events(path):
            if event.HasField("session_log"):  # what earlier files say of this step and later ones is void
                for series in found.values():
                    for step in [step for step in series if step >= event.step]:
                        del series[step]
            for value in event.summary.value:
                if value.tag in found and value.HasField("simple_value"):
                    found[value.tag][event.step] = value.simple_value
    return found


def _events(path: Path) -> Iterator[Any]:
    """The records of an event file, up to one that is not whole.

    Source: tensorflow/core/lib/io/record_writer.h: length, checksum, content, checksum.
    """
    try:
        content = read_bytes(path)
        at = 0
        while at + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            if at + 16 + length > len(content):
                return
            yield event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
    except (OSError, DecodeError):
        return


def _explained(path: Path, error: OSError) -> StudyError:
    return StudyError(
        f"{path} cannot be written: {error.strerror or error}; free some space or change the "
        "permissions, or search without TensorBoard"
    )
