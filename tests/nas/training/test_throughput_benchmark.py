import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "train_throughput.py"
BRIEF = ("--device", "cpu", "--pixels", "32", "--width", "0.1", "--batch-size", "8", "--seconds", "0.2")


def run(*options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(PROGRAM), *options], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_benchmark_compares_all_loops_within_the_same_turns(tmp_path):
    pytest.importorskip("timm")
    ended = run(
        *BRIEF, "--baseline", "--repeats", "1", "--side-by-side", "2", "--json", str(tmp_path / "found")
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "found").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert [*rows] == ["ours, resident", "ours, JPEG files", "plain loop", "plain, no loading", "timm's loop"]
    for row in rows.values():
        first = rows["ours, resident"]["images_per_second"]
        assert row["ratios"] == pytest.approx(
            [a / b for a, b in zip(first, row["images_per_second"], strict=True)]
        )
        assert len(row["startup_ms"]) == 1
        assert row["name"] in ended.stdout
    assert [*found["side_by_side"]["32"]] == ["one alone", "2 processes"]
    assert all(value > 0 for values in found["side_by_side"]["32"].values() for value in values)


@pytest.mark.slow
def test_the_benchmark_says_what_is_wrong_without_a_traceback():
    ended = run("--device", "toaster")
    assert ended.returncode == 1
    assert "`device in ('auto', 'cpu', 'cuda')` must hold" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = run("--pixels", "33")
    assert ended.returncode == 2
    assert "pixels % 8 == 0" in ended.stderr
