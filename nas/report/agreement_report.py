"""How the agreement of shared weights with trainings is shown: tau in a sentence, the options in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from nas.evaluation.agreement import Agreement, Marginal
from nas.metrics import metric_info
from nas.report.printing import Column, Table

MOST_OPTIONS = 12
"""Options drawn; JSON has all of them."""


def agreement_words(agreement: Agreement) -> str:
    """How far the two orders agree, in sentences."""
    count, label = len(agreement.pairs), metric_info(agreement.metric).label
    start = f"Of {count} networks, {label} in shared weights and after training: Kendall's tau"
    if agreement.tau is None:
        return f"{start} is not known; train more of them, or such as differ."
    tau = agreement.tau
    return (
        f"{start} {tau.value:.2f} (95 %: {tau.low:.2f} to {tau.high:.2f}). Networks chosen for what they "
        "reach in shared weights agree less than random ones, of which nas proxy-check --supernet tells."
    )


def marginal_table(marginals: Sequence[Marginal]) -> Table:
    """The options, those first that shared weights over- or undervalue most for their chance."""
    rows = tuple(
        {**asdict(one), "bias": one.bias, "is_clear": one.is_clear, "mark": "*" if one.is_clear else ""}
        for one in marginals
    )
    clear = sum(one.is_clear for one in marginals)
    left = len(rows) - MOST_OPTIONS
    more = f" {left} more options are in --json." if left > 0 else ""
    return Table(
        key="marginals",
        title="Options in shared weights and after training",
        columns=(
            Column(key="decision", heading="decision"),
            Column(key="option", heading="option"),
            Column(key="networks", heading="networks", is_number=True),
            _deviations("shared", "shared weights"),
            _deviations("alone", "trained"),
            _deviations("bias", "bias"),
            Column(key="chance", heading="by chance", show="±{:.2f}".format, is_number=True),
            Column(key="mark", heading=""),
        ),
        rows=rows,
        drawn=rows[:MOST_OPTIONS],
        notes=(
            "Mean of the networks with an option less that of all, in standard deviations between networks; "
            "bias is how much better the option looks in shared weights than it is.",
            f"* more than two deviations of what chance gives: {clear} of {len(rows)}; 1 in 20 would be by "
            f"chance alone.{more}",
        ),
    )


def _deviations(key: str, heading: str) -> Column:
    return Column(key=key, heading=heading, show="{:+.2f}".format, is_number=True)
