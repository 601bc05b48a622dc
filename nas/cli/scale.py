"""`nas scale`: a network made larger or smaller, the family as a table, and its members as files."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import TypedDict

from nas.architectures import Architecture, find_architecture
from nas.errors import ExportError, UsageError
from nas.report.family_report import Step, family_report
from nas.report.printing import emit
from search_spaces import Matched, Network, Scaling, compound, cost, largest, largest_phi, match, member
from search_spaces.scaling import BASES, RULES, member_of, require_phi


def run(arguments: Namespace) -> int:
    """Prints the family and writes its members."""
    found = find_architecture(arguments.architecture)
    way = _require_one_size(arguments)
    if arguments.direction is None:
        steps = _by_formula(arguments, found, way)
    else:
        steps = _in_direction(arguments, found, way)
    folder = Path(arguments.out or f"runs/{found.name}-scaled").expanduser()
    files = _write(folder, steps)
    report = family_report(found.name, found.network, steps, folder, files, direction=arguments.direction)
    emit(report, as_json=arguments.json)
    return 0


def _require_one_size(arguments: Namespace) -> str:
    """Says which of the ways to give a size was taken: phi, factors or limits.

    Raises:
        UsageError: None was, or two, or one that does not go with a direction.
    """
    given = {"phi": arguments.phi, "factors": _factors(arguments), "limits": _limits(arguments)}
    ways = [name for name, values in given.items() if values]
    if len(ways) != 1:
        raise UsageError(
            "the size must be given by one of: --phi 1..7, factors such as --depth 2 or --width 1.4, or "
            "limits such as --max-macs 1G for the largest network that keeps them",
            field="phi",
        )
    if arguments.direction is not None and (ways == ["factors"] or arguments.bases is not None):
        raise UsageError(
            "--direction shares the cost itself: leave out --depth, --width, --resolution and --bases, and "
            "give --phi or limits",
            field="direction",
        )
    return ways[0]


def _factors(arguments: Namespace) -> dict[str, float]:
    names = ("depth", "width", "resolution")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


class _Limits(TypedDict, total=False):
    macs: float
    params: float
    inference_bytes: float


def _limits(arguments: Namespace) -> _Limits:
    limits = _Limits()
    if arguments.max_macs is not None:
        limits["macs"] = arguments.max_macs
    if arguments.max_params is not None:
        limits["params"] = arguments.max_params
    if arguments.max_memory_bytes is not None:
        limits["inference_bytes"] = arguments.max_memory_bytes
    return limits


def _by_formula(arguments: Namespace, found: Architecture, way: str) -> tuple[Step, ...]:
    """The members by the formula of the paper's code, or by factors."""
    rule, multiple = RULES[arguments.rule], arguments.multiple
    bases = dict(zip(("depth_base", "width_base", "resolution_base"), arguments.bases or BASES, strict=True))
    scalings: list[tuple[str, float | None, Scaling]]
    if way == "factors":
        factors = _factors(arguments)
        words = "-".join(f"{name}-{factor:g}" for name, factor in factors.items())
        scalings = [(words, None, Scaling(**factors))]
    else:
        phis = arguments.phi
        if way == "limits":
            limits = _limits(arguments)
            phis = [largest_phi(found.network, **limits, **bases, rule=rule, resolution_multiple=multiple)]
        scalings = [(f"phi-{phi:.4g}", phi, compound(phi, **bases)) for phi in phis]
    return tuple(
        Step(
            name=name,
            phi=phi,
            member=member(found.network, scaling, rule=rule, resolution_multiple=multiple),
        )
        for name, phi, scaling in scalings
    )


def _in_direction(arguments: Namespace, found: Architecture, way: str) -> tuple[Step, ...]:
    """The members in a direction, at real multiply-adds or within limits."""
    network, direction = found.network, arguments.direction
    rule, multiple = RULES[arguments.rule], arguments.multiple
    label = str(direction).replace(",", "-")
    if way == "limits":
        matched = largest(network, direction, **_limits(arguments), rule=rule, resolution_multiple=multiple)
        phi = math.log2(cost(matched.network).macs / cost(network).macs)
        return (_step(network, matched, label, phi),)
    base = cost(network).macs
    return tuple(
        _step(
            network,
            match(
                network,
                direction,
                target=base * 2.0 ** require_phi(phi),
                rule=rule,
                resolution_multiple=multiple,
            ),
            label,
            phi,
        )
        for phi in arguments.phi
    )


def _step(network: Network, matched: Matched, label: str, phi: float) -> Step:
    return Step(
        name=f"{label}-phi-{phi:.4g}",
        phi=phi,
        member=member_of(network, matched.network, matched.scaling),
        error=matched.error,
    )


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
