"""How one network is formatted: its costs, its stages, its layers, its block strings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from nas.evaluation.cost_check import CostCheck
from nas.report.printing import MACS, PARAMS, Column, Fact, Report, Table, show_bytes, show_count
from nas.values import counted
from search_spaces import Network, SpaceError, cost, describe, describe_layers, memory, to_strings


def network_report(
    name: str,
    network: Network,
    picture: Path | None,
    *,
    batch_size: int,
    with_layers: bool,
    check: CostCheck | None = None,
) -> Report:
    """The report of `nas describe`.

    Args:
        name: What the network is called.
        network: The network.
        picture: Where it was drawn; None where it was not.
        batch_size: Images of the training memory.
        with_layers: Whether every layer is listed.
        check: Its costs counted again; None where they were not.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    facts = _facts(name, network, batch_size)
    if picture is not None:
        facts.append(Fact(key="picture", label="picture", value=str(picture)))
    tables = [stage_table(network)]
    if with_layers:
        tables.append(_layer_table(network))
    if check is not None:
        facts.append(Fact(key="is_cost_equal", label="", value=check.is_equal))
        tables += _check_tables(check)
    return Report(title=name, facts=tuple(facts), tables=(*tables, *_strings(network)))


def _facts(name: str, network: Network, batch_size: int) -> list[Fact]:
    """What it is, what it computes, and the memory that it takes."""
    price, held = cost(network), memory(network)
    training = held.training_bytes(batch_size)
    side = network.resolution
    return [
        Fact(key="name", label="network", value=name, text=f"{name}  (digest {network.digest})"),
        Fact(
            key="input",
            label="input",
            value={
                "resolution": side,
                "in_channels": network.in_channels,
                "num_classes": network.num_classes,
            },
            text=f"{network.in_channels} x {side} x {side}, {counted(network.num_classes, 'class')}",
        ),
        Fact(key="params", label="params", value=price.params, text=f"{price.params:,}"),
        Fact(key="macs", label="macs", value=price.macs, text=f"{price.macs:,}"),
        Fact(
            key="activations",
            label="activations",
            value=price.activations,
            text=f"{price.activations:,}  ({show_bytes(price.activation_bytes)} in float32)",
        ),
        Fact(
            key="inference_bytes",
            label="inference memory",
            value=held.inference_bytes,
            text=f"{show_bytes(held.inference_bytes)} at its peak, one image, float32",
        ),
        Fact(
            key="training_bytes",
            label="training memory",
            value=training,
            text=f"{show_bytes(training)} at its peak, batch {batch_size}, float32, momentum; an estimate",
        ),
        Fact(
            key="arithmetic_intensity",
            label="intensity",
            value=held.arithmetic_intensity,
            text=f"{held.arithmetic_intensity:.2f} macs for each byte read or written, one image",
        ),
    ]


def stage_table(network: Network) -> Table:
    """The network stage by stage, with work and memory."""
    total = cost(network).macs or 1
    rows = tuple(
        {
            "stage": row.stage,
            "operator": row.operator,
            "resolution": row.resolution,
            "channels": row.channels,
            "layers": row.layers,
            "macs": row.macs,
            "share": row.macs / total,
            "params": row.params,
            "activations": row.activations,
            "peak_bytes": row.peak_bytes,
            "arithmetic_intensity": row.arithmetic_intensity,
        }
        for row in describe(network)
    )
    columns = (
        Column(key="stage", heading="stage"),
        Column(key="operator", heading="operator"),
        Column(key="resolution", heading="pixels", is_number=True),
        Column(key="channels", heading="channels", is_number=True),
        Column(key="layers", heading="layers", is_number=True),
        MACS,
        PARAMS,
        Column(key="activations", heading="acts", show=show_count, is_number=True),
        Column(key="peak_bytes", heading="peak", show=show_bytes, is_number=True),
        Column(
            key="arithmetic_intensity", heading="macs/byte", show=lambda one: f"{one:.2f}", is_number=True
        ),
    )
    note = (
        "acts: values that convolutions and linear layers put out; peak: most feature maps alive while the "
        "stage runs, its input among them"
    )
    return Table(key="stages", title="Stages", columns=columns, rows=rows, notes=(note,))


def _layer_table(network: Network) -> Table:
    rows = tuple(
        {
            "name": row.name,
            "layer": row.layer,
            "in_shape": list(row.in_shape),
            "out_shape": list(row.out_shape),
            "macs": row.macs,
            "params": row.params,
            "activations": row.activations,
            "traffic_bytes": row.traffic_bytes,
        }
        for row in describe_layers(network)
    )

    def shape(sides: list[int]) -> str:
        return " x ".join(map(str, sides))

    columns = (
        Column(key="name", heading="layer"),
        Column(key="out_shape", heading="out", show=shape),
        MACS,
        PARAMS,
        Column(key="activations", heading="activations", show=show_count, is_number=True),
        Column(key="traffic_bytes", heading="traffic", show=show_bytes, is_number=True),
    )
    return Table(key="layers", title="Layers", columns=columns, rows=rows)


def _check_tables(check: CostCheck) -> list[Table]:
    """Both counts side by side, and the types of layer that differ where they do."""
    counts = (
        ("macs", check.macs, check.counted_macs),
        ("params", check.params, check.counted_params),
    )
    rows = tuple(
        {"quantity": name, "ours": ours, "fvcore": theirs, "difference": ours - theirs}
        for name, ours, theirs in counts
    )
    columns = (
        Column(key="quantity", heading=""),
        Column(key="ours", heading="counted here", show=_exact, is_number=True),
        Column(key="fvcore", heading="by fvcore", show=_exact, is_number=True),
        Column(key="difference", heading="difference", show=_exact, is_number=True),
    )
    note = "fvcore counts the built module: its convolutions and linear layers on one image, its parameters"
    tables = [Table(key="check", title="Costs, counted twice", columns=columns, rows=rows, notes=(note,))]
    if check.differences:
        columns = (
            Column(key="module", heading="type of layer"),
            Column(key="layers", heading="layers that differ", is_number=True),
            Column(key="macs", heading="macs, ours less fvcore's", show=_exact, is_number=True),
            Column(key="params", heading="params, likewise", show=_exact, is_number=True),
        )
        rows = tuple(asdict(one) for one in check.differences)
        tables.append(Table(key="differences", title="Where they differ", columns=columns, rows=rows))
    return tables


def _exact(value: int) -> str:
    return f"{value:,}"


def _strings(network: Network) -> tuple[Table, ...]:
    """The network in the notations that can say it."""
    tables = []
    for dialect in ("mnasnet", "timm"):
        try:
            strings = to_strings(network, dialect, squeeze_excite=network.squeeze_excite)
        except SpaceError:
            continue
        tables.append(
            Table(
                key=f"strings_{dialect}",
                title=f"Block strings, {dialect}'s dialect",
                columns=(Column(key="string", heading="string"),),
                rows=tuple({"string": string} for string in strings),
            )
        )
    return tuple(tables)
