"""Owns `nas export`: a trial of a study as a bundle that needs only PyTorch.

Does not own writing and checking the bundle (`nas.export.bundle`).
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.reports.printing import Fact, Report, emit, show_bytes
from nas.reports.show import open_with_space

if TYPE_CHECKING:
    from nas.export.bundle import Bundle
    from nas.studies.study_trial import StudyTrial


def run(arguments: Namespace) -> int:
    """Exports the best trial, or the one asked for, and prints what was written and checked."""
    study = open_with_space(arguments.folder)
    trial = study.best if arguments.trial is None else study.trial(arguments.trial)
    default = study.folder / "export" / f"trial-{trial.number}"
    folder = default if arguments.to is None else Path(arguments.to).expanduser()
    bundle = trial.export(folder, overwrite=True)
    emit(_report(trial, bundle), as_json=arguments.json)
    return 0


def _report(trial: StudyTrial, bundle: Bundle) -> Report:
    same = "equal to the bit" if bundle.is_bit_equal else f"apart by {bundle.torch_error:.1e} of the largest"
    onnx = (
        "none"
        if bundle.onnx_error is None
        else f"logits in ONNX Runtime apart by {bundle.onnx_error:.1e} of the largest"
    )
    return Report(
        title=f"Exported trial {trial.number}",
        facts=(
            Fact(key="trial", label="trial", value=trial.number),
            Fact(key="folder", label="folder", value=str(bundle.folder)),
            Fact(key="files", label="files", value=list(bundle.files), text=", ".join(bundle.files)),
            Fact(key="size_bytes", label="size", value=bundle.size_bytes, text=show_bytes(bundle.size_bytes)),
            Fact(
                key="is_bit_equal",
                label="model.py",
                value=bundle.is_bit_equal,
                text=f"loaded in a new process without this package: logits {same}",
            ),
            Fact(key="torch_error", label="", value=bundle.torch_error),
            Fact(key="onnx_error", label="model.onnx", value=bundle.onnx_error, text=onnx),
        ),
    )
