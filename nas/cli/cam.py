"""`nas cam`: where in images networks look, side by side in a picture."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from nas.errors import UsageError
from nas.report.activity import Activity
from nas.report.class_maps_report import class_maps_report
from nas.report.printing import emit, make_console


def run(arguments: Namespace) -> int:
    """Maps, draws, prints."""
    from nas.class_mapping import class_maps
    from nas.mapped_networks import tell_apart
    from nas.report.class_maps_picture import check_size, draw_class_maps
    from nas.report.figures import check_name

    out = Path(arguments.out).expanduser()
    check_name(out, field="out")
    networks, images = tell_apart(arguments.what)
    check_size(len(images), len(networks))
    _check_spares(out, images)
    with Activity(make_console(to_stderr=True), "loading the networks") as activity:
        rows = class_maps(
            networks,
            images,
            class_name=arguments.class_name,
            method=arguments.method,
            device=arguments.device,
            progress=activity,
        )
        activity("drawing")
        draw_class_maps(rows, out)
    emit(class_maps_report(rows, out), as_json=arguments.json)
    return 0


def _check_spares(out: Path, images: Sequence[str]) -> None:
    """Checks that no image is written over.

    Raises:
        UsageError: The picture would be one of them.
    """
    if out.exists() and any(out.samefile(Path(image).expanduser()) for image in images):
        raise UsageError(
            f"the picture must not replace an image, but {out} is one of those given: choose another name "
            "for --out",
            field="out",
        )
