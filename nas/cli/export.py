"""`nas export`: a trial of a study as a bundle that needs only PyTorch, or any network for timm."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.architectures import find_architecture
from nas.errors import UsageError
from nas.report.activity import Activity
from nas.report.printing import Fact, Report, emit, make_console, show_bytes, show_count
from nas.study.with_space import open_with_space
from search_spaces import Network

if TYPE_CHECKING:
    from nas.export.bundle import Bundle
    from nas.export.timm_format import TimmExport
    from nas.study.study_trial import StudyTrial


def run(arguments: Namespace) -> int:
    """Exports the best trial, or what was asked for, and prints what was written and checked."""
    export = _export_timm if arguments.format == "timm" else _export_bundle
    with Activity(make_console(to_stderr=True), "exporting, and loading the bundle in a new process"):
        report = export(arguments)
    emit(report, as_json=arguments.json)
    return 0


def _export_bundle(arguments: Namespace) -> Report:
    if Path(arguments.folder).expanduser().is_file():
        raise UsageError(
            f"a bundle holds trained weights, which {arguments.folder} does not: give a study's folder, or "
            "--format timm",
            field="folder",
        )
    trial, default = _trial(arguments)
    bundle = trial.export(_place(arguments, default), overwrite=True)
    return _bundle_report(trial, bundle)


def _trial(arguments: Namespace) -> tuple[StudyTrial, Path]:
    """The trial of a study that is meant, and where it is exported to by default."""
    study = open_with_space(arguments.folder)
    trial = study.best if arguments.trial is None else study.trial(arguments.trial)
    return trial, study.folder / "export" / f"trial-{trial.number}"


def _place(arguments: Namespace, default: Path) -> Path:
    return default if arguments.to is None else Path(arguments.to).expanduser()


def _export_timm(arguments: Namespace) -> Report:
    from nas.export.timm_format import export_timm

    described = _described(arguments)
    written = export_timm(_place(arguments, described.default), described.network, overwrite=True)
    return _timm_report(described, written)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """A network that is exported without weights.

    Attributes:
        name: What to call it.
        network: The network.
        default: Where it is exported to by default.
    """

    name: str
    network: Network
    default: Path


def _described(arguments: Namespace) -> _Described:
    """The network that is meant: a study's trial, or whatever else a user can name."""
    folder = Path(arguments.folder).expanduser()
    if folder.is_dir() and not (folder / "architecture.json").is_file():
        trial, place = _trial(arguments)
        default = place.with_name(f"{place.name}-timm")
        return _Described(name=f"trial {trial.number}", network=trial.network, default=default)
    if arguments.trial is not None:
        raise UsageError(
            f"--trial chooses a trial of a study, which {arguments.folder} is not: leave it out",
            field="trial",
        )
    found = find_architecture(arguments.folder)
    return _Described(name=found.name, network=found.network, default=Path("runs", f"{found.name}-timm"))


def _timm_report(described: _Described, written: TimmExport) -> Report:
    facts = written.arguments
    return Report(
        title=f"Exported {described.name} for timm",
        facts=(
            Fact(key="network", label="network", value=facts.network),
            *_folder_facts(written),
            Fact(key="model", label="timm's class", value=facts.model),
            Fact(key="params", label="parameters", value=facts.params, text=show_count(facts.params)),
            Fact(key="macs", label="multiply-adds", value=facts.macs, text=show_count(facts.macs)),
            Fact(key="arch_def", label="", value=facts.arch_def),
        ),
        notes=(
            "timm_model.build() makes it again; timm_model.load(FILE) with the weights.safetensors of the "
            "network's bundle",
        ),
    )


def _folder_facts(written: Bundle | TimmExport) -> tuple[Fact, ...]:
    return (
        Fact(key="folder", label="folder", value=str(written.folder)),
        Fact(key="files", label="files", value=list(written.files), text=", ".join(written.files)),
        Fact(key="size_bytes", label="size", value=written.size_bytes, text=show_bytes(written.size_bytes)),
    )


def _bundle_report(trial: StudyTrial, bundle: Bundle) -> Report:
    same = "equal to the bit" if bundle.is_bit_equal else f"apart by {bundle.torch_error:.1e} of the largest"
    onnx = (
        "none"
        if bundle.onnx_error is None
        else f"logits in ONNX Runtime apart by {bundle.onnx_error:.1e} of the largest"
    )
    pixels = (
        f"reads {bundle.image_files} image files of all modes as training does"
        if bundle.image_files
        else "none: how the images were read is not known"
    )
    return Report(
        title=f"Exported trial {trial.number}",
        facts=(
            Fact(key="trial", label="trial", value=trial.number),
            *_folder_facts(bundle),
            Fact(
                key="is_bit_equal",
                label="model.py",
                value=bundle.is_bit_equal,
                text=f"loaded in a new process without this package: logits {same}",
            ),
            Fact(key="torch_error", label="", value=bundle.torch_error),
            Fact(key="onnx_error", label="model.onnx", value=bundle.onnx_error, text=onnx),
            Fact(key="image_files", label="predict.py", value=bundle.image_files, text=pixels),
        ),
    )
