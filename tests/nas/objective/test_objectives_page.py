"""What docs/objectives.md says of objectives and metrics holds."""

import re
from pathlib import Path

import pytest

from nas.metrics import METRICS
from nas.objective import Objective

PAGE = (Path(__file__).parents[3] / "docs" / "objectives.md").read_text(encoding="utf-8")


def rows(heading):
    """The cells of a section's table, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table]


@pytest.mark.parametrize("row", rows("Examples"), ids=lambda row: row[0])
def test_an_example_is_stored_as_the_page_says(row):
    text, stored, meaning = row
    objective = Objective.parse(text.strip("`"))
    assert objective.describe() == stored.strip("`")
    assert Objective.parse(objective.describe()) == objective
    assert meaning


def test_the_table_of_metrics_is_the_registry():
    shown = [
        [
            f"`{info.name}`",
            ", ".join(f"`{alias}`" for alias in info.aliases) or "–",  # noqa: RUF001
            info.unit.name,
            info.direction,
            info.origin,
            f"`{info.unit.example}`",
        ]
        for info in METRICS
    ]
    assert rows("Metrics") == shown
