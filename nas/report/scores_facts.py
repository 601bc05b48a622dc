"""Lines that the reports of several tasks have."""

from __future__ import annotations

from nas.report.printing import Fact, show_accuracy


def score_fact(key: str, label: str, value: float | None, none: str = "none", said: str = "") -> Fact:
    """A score with four digits and what is said of it; or why there is none."""
    text = none if value is None else f"{show_accuracy(value)}{said}"
    return Fact(key=key, label=label, value=value, text=text)


def calibration_fact(error: float, bins: int) -> Fact:
    """The expected calibration error."""
    text = f"{error:.4f}, expected, {bins} bins"
    return Fact(key="calibration_error", label="calibration error", value=error, text=text)


def more_in_csv(count: int, what: str) -> tuple[str, ...]:
    """Says how many mistakes are not shown."""
    return (f"{count:,} more {what}: --top N, or --csv for all",) if count > 0 else ()
