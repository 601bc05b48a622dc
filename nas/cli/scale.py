"""`nas scale`: a network made larger or smaller, the family as a table, and its members as files."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nas.architectures import Architecture, find_architecture
from nas.errors import ExportError, UsageError
from nas.report.family_report import Step, family_report
from nas.report.printing import emit
from search_spaces import Scaling, compound, largest_phi, member
from search_spaces.scaling import RULES


def run(arguments: Namespace) -> int:
    """Prints the family and writes its members."""
    found = find_architecture(arguments.architecture)
    steps = tuple(
        Step(
            name=name,
            phi=phi,
            member=member(
                found.network,
                scaling,
                rule=RULES[arguments.rule],
                resolution_multiple=arguments.multiple,
            ),
        )
        for name, phi, scaling in _scalings(arguments, found)
    )
    folder = Path(arguments.out or f"runs/{found.name}-scaled").expanduser()
    files = _write(folder, steps)
    emit(family_report(found.name, found.network, steps, folder, files), as_json=arguments.json)
    return 0


def _scalings(arguments: Namespace, found: Architecture) -> list[tuple[str, float | None, Scaling]]:
    """Name, phi and factors of every member asked for."""
    factors = {
        name: getattr(arguments, name)
        for name in ("depth", "width", "resolution")
        if getattr(arguments, name) is not None
    }
    limits = {
        "macs": arguments.max_macs,
        "params": arguments.max_params,
        "inference_bytes": arguments.max_memory_bytes,
    }
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if sum(map(bool, (arguments.phi, factors, given))) != 1:
        raise UsageError(
            "the size must be given by one of: --phi 1..7, factors such as --depth 2 or --width 1.4, or "
            "limits such as --max-macs 1G for the largest network that keeps them",
            field="phi",
        )
    if factors:
        words = "-".join(f"{name}-{factor:g}" for name, factor in factors.items())
        return [(words, None, Scaling(**factors))]
    bases = dict(zip(("depth_base", "width_base", "resolution_base"), arguments.bases, strict=True))
    phis = arguments.phi
    if given:
        rule, multiple = RULES[arguments.rule], arguments.multiple
        phis = [largest_phi(found.network, **given, **bases, rule=rule, resolution_multiple=multiple)]
    return [(f"phi-{phi:.4g}", phi, compound(phi, **bases)) for phi in phis]


def _write(folder: Path, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Writes every member as an architecture.

    Raises:
        ExportError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for step in steps:
            (folder / f"{step.name}.json").write_text(step.member.network.to_json(), encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written: {error}; choose another --out", field="out"
        ) from error
    return tuple(f"{step.name}.json" for step in steps)
