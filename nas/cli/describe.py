"""`nas describe`: a network stage by stage or layer by layer, its costs, its notation, its picture."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from nas.architectures import find_architecture
from nas.report.network_report import network_report
from nas.report.printing import emit

EXIT_DIFFERS = 1


def run(arguments: Namespace) -> int:
    """Prints the network, draws and checks it where asked to; returns 1 where the counts differ."""
    found = find_architecture(arguments.architecture)
    changes = {
        name: getattr(arguments, name)
        for name in ("resolution", "num_classes", "in_channels")
        if getattr(arguments, name) is not None
    }
    network = replace(found.network, **changes)
    picture = None
    if arguments.draw is not None:
        from nas.report.network_picture import draw_network

        picture = draw_network(network, Path(arguments.draw).expanduser(), title=found.name)
    check = None
    if arguments.check:
        from nas.evaluation.cost_check import check_costs

        check = check_costs(network)
    report = network_report(
        found.name,
        network,
        picture,
        batch_size=arguments.batch_size,
        with_layers=arguments.layers,
        check=check,
    )
    emit(report, as_json=arguments.json)
    return EXIT_DIFFERS if check is not None and not check.is_equal else 0
