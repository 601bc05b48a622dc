"""What `nas evaluate` prints of predicted numbers, in their own unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.report.printing import Column, Fact, Row, Table
from nas.report.scores_facts import interval_fact, more_in_csv
from nas.units import show_accuracy, show_interval, show_value

if TYPE_CHECKING:
    from nas.scoring.regression_scores import ColumnScores, RegressionScores

COLUMNS = (
    Column(key="column", heading="column", show=printable),
    Column(key="r2", heading="R2", show=show_accuracy, is_number=True),
    Column(key="rmse", heading="RMSE", show=show_value, is_number=True),
    Column(key="mae", heading="MAE", show=show_value, is_number=True),
    Column(key="bias", heading="bias", show=show_value, is_number=True),
    Column(key="mean", heading="mean of labels", show=show_value, is_number=True),
    Column(key="deviation", heading="deviation", show=show_value, is_number=True),
)


def number_facts(scores: RegressionScores) -> tuple[Fact, ...]:
    """Averages, and what is in JSON alone."""
    over = f", mean over {len(scores.classes):,} columns" if len(scores.classes) > 1 else ""
    mixed = f"{over}, each in its own unit" if over else ""
    r2 = (
        "none: all labels of each column are equal"
        if scores.r2 is None
        else f"{scores.r2:.4f}{over}, 95 % interval {show_interval(scores.interval)}"
    )
    chance = ""
    if len(scores.classes) == 1:
        chance = f"; predicting the mean of these labels has {show_value(scores.per_column[0].deviation)}"
    return (
        Fact(key="r2", label="R2", value=scores.r2, text=f"{r2}; predicting the mean of these labels has 0"),
        interval_fact("r2", scores.interval),
        Fact(key="rmse", label="RMSE", value=scores.rmse, text=f"{show_value(scores.rmse)}{mixed}{chance}"),
        Fact(key="mae", label="MAE", value=scores.mae, text=f"{show_value(scores.mae)}{mixed}"),
        Fact(key="classes", label="", value=list(scores.classes)),
    )


def number_tables(scores: RegressionScores, top: int) -> tuple[Table, ...]:
    """Columns, and so many residuals."""
    columns = Table(
        key="per_column",
        title="Columns, in their own unit; the deviation is the RMSE of predicting the mean",
        columns=COLUMNS,
        rows=tuple(map(_column_row, scores.per_column)),
    )
    return (columns, *([_residual_table(scores, top)] if top else []))


def number_rows(scores: RegressionScores) -> Iterator[tuple[object, ...]]:
    """The lines of the CSV, its header first: of each column the true and the predicted number."""
    yield "file", *(cell for name in scores.classes for cell in (f"{name}_true", f"{name}_prediction"))
    for row in range(scores.images):
        one = scores.image(row)
        pairs = zip(one.labels, one.predictions, strict=True)
        yield printable(one.name), *(f"{number:.7g}" for pair in pairs for number in pair)


def _column_row(one: ColumnScores) -> Row:
    return {
        "column": one.name,
        "r2": one.r2,
        "rmse": one.rmse,
        "mae": one.mae,
        "bias": one.bias,
        "mean": one.mean,
        "deviation": one.deviation,
    }


def _residual_table(scores: RegressionScores, top: int) -> Table:
    rows = tuple(
        {
            "file": one.name,
            "column": one.column,
            "true": one.label,
            "prediction": one.prediction,
            "residual": one.value,
        }
        for one in scores.residuals(top)
    )
    return Table(
        key="residuals",
        title="Largest residuals" + (", in deviations of their column" if len(scores.classes) > 1 else ""),
        columns=(
            Column(key="file", heading="file", show=printable),
            *([Column(key="column", heading="column", show=printable)] if len(scores.classes) > 1 else []),
            Column(key="true", heading="true", show=show_value, is_number=True),
            Column(key="prediction", heading="prediction", show=show_value, is_number=True),
            Column(key="residual", heading="residual", show=show_value, is_number=True),
        ),
        rows=rows,
        notes=more_in_csv(scores.images * len(scores.classes) - len(rows), "residuals"),
    )
