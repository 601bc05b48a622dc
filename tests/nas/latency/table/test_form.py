"""The form for measuring elsewhere: what is written can be filled in, and mistakes are named by their row."""

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nas.errors import LatencyError
from nas.latency.table.form import read_form, write_form
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, small

from .synthetic import network_truth_ms

CHECK = 5
GOLDEN = Path(__file__).parents[2] / "golden" / "latency-1"


def tiny_space(resolution=8):
    """24 networks of at most 3 blocks beside stem and head: the space of the golden form."""
    stage = Stage(
        op=MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3)), channels=8, repeats=choice(1, 2)
    )
    last = Stage(op=choice(Conv(), MBConv(), MBConv(kernel_size=5)), channels=8, stride=2)
    return space_of(stage, last, resolution=resolution)


def space_of(*stages, resolution=8):
    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=stages,
        head=Head(channels=16),
        resolution=resolution,
        num_classes=3,
    )
    return SearchSpace(template, name="tiny")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows, columns=None):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def change(path, edit):
    rows = rows_of(path)
    edit(rows)
    write_rows(path, rows)


@pytest.fixture
def filled(tmp_path):
    """The golden form as this version writes it, but for the ONNX files, which reading does not need."""
    folder = tmp_path / "pixel"
    folder.mkdir()
    facts = json.loads((GOLDEN / "form" / "form.json").read_text())
    (folder / "form.json").write_text(json.dumps({**facts, "version": 2}))
    networks = [
        {**row, "stage": "network", "text": "a whole network"}
        for row in rows_of(GOLDEN / "form" / "networks.csv")
    ]
    write_rows(folder / "latencies.csv", rows_of(GOLDEN / "form" / "blocks.csv") + networks)
    return folder


def is_network(row):
    return row["stage"] == "network"


def read(folder, space=None):
    return read_form(space or tiny_space(), folder, device_name="Pixel 8")


@pytest.mark.slow
def test_a_form_that_is_written_runs_and_is_read_once_it_is_filled_in(tmp_path):
    space = space_of(Stage(op=choice(Conv(), MBConv()), channels=8))
    folder = tmp_path / "form"
    plan = write_form(space, folder, most_blocks=400, check=1)
    rows = rows_of(folder / "latencies.csv")
    assert [row["key"] for row in rows] == [
        *(block.key for block in plan.blocks),
        *(network.digest for network in plan.networks),
    ]
    for row in rows:
        session = onnxruntime.InferenceSession(folder / row["file"])
        shape = tuple(int(row[name]) for name in ("channels", "height", "width"))
        (found,) = session.run(None, {session.get_inputs()[0].name: np.zeros((1, *shape), np.float32)})
        assert found.shape[0] == 1
    assert {row["latency_ms"] for row in rows} == {""}
    change(folder / "latencies.csv", lambda rows: [row.update(latency_ms=2.5) for row in rows])
    table = read(folder, space)
    assert [block.latency_ms for block in table.blocks] == [2.5] * len(plan.blocks)
    assert [one.latency_ms for one in table.check.networks] == [2.5]


def test_a_filled_form_gives_a_table_that_predicts(filled):
    table = read(filled)
    assert (table.device_name, table.settings, table.session) == ("Pixel 8", None, None)
    assert table.check.n == CHECK
    assert table.check.repeat_error is None
    assert {block.n for block in table.blocks} == {1}
    space = tiny_space()
    network = space.decode(space.sample(np.random.default_rng(0)))
    assert table.predict(network) == pytest.approx(network_truth_ms(network), rel=0.02)


def test_a_form_of_the_version_before_is_read():
    table = read(GOLDEN / "form")
    assert table.check.n == CHECK
    space = tiny_space()
    network = space.decode(space.sample(np.random.default_rng(0)))
    assert table.predict(network) == pytest.approx(network_truth_ms(network), rel=0.02)


@pytest.mark.parametrize("is_empty", [True, False])
def test_without_networks_there_is_a_table_and_no_error_is_stated(filled, is_empty):
    rows = rows_of(filled / "latencies.csv")
    kept = [row for row in rows if is_empty or not is_network(row)]
    write_rows(
        filled / "latencies.csv", [row | ({"latency_ms": ""} if is_network(row) else {}) for row in kept]
    )
    table = read(filled)
    assert table.check is None
    assert table.correction.networks == 0
    assert "no error can be stated" in table.error_text
    assert "not corrected" in table.environment


def test_some_networks_suffice(filled):
    change(filled / "latencies.csv", lambda rows: rows[-1].update(latency_ms=""))
    assert read(filled).check.n == CHECK - 1


def test_other_columns_and_another_order_do_no_harm(filled):
    rows = [{"note": "x", **row} for row in reversed(rows_of(filled / "latencies.csv"))]
    before = read(filled)
    write_rows(filled / "latencies.csv", rows, columns=["note", "latency_ms", "key", *list(rows[0])[2:-1]])
    assert read(filled) == before


@pytest.mark.parametrize(
    ("edit", "field", "message"),
    [
        (lambda rows: rows.pop(1), "latency_ms", r"of 1 of \d+ blocks, the first \w{16} \(MBConv"),
        (lambda rows: rows[2].update(latency_ms=""), "latency_ms", r"of 1 of \d+ blocks, the first \w{16}"),
        (lambda rows: rows.append(rows[0]), "key", r"row \d+: \w{16} is in .*row 2 already"),
        (lambda rows: rows[1].update(key="abc"), "key", r"latencies.csv, row 3: 'abc' is no key"),
        (lambda rows: rows[1].update(latency_ms="0"), "latency_ms", "row 3"),
        (lambda rows: rows[1].update(latency_ms="-2"), "latency_ms", "row 3"),
        (lambda rows: rows[1].update(latency_ms="nan"), "latency_ms", "row 3"),
        (lambda rows: rows[1].update(latency_ms="1,5"), "latency_ms", r"row 3: .*write a decimal point"),
        (lambda rows: rows[1].update(latency_ms="2 ms"), "latency_ms", r"row 3: .*without a unit"),
    ],
)
def test_a_mistake_in_a_row_is_named(filled, edit, field, message):
    change(filled / "latencies.csv", edit)
    with pytest.raises(LatencyError, match=message) as error:
        read(filled)
    assert error.value.field == field


@pytest.mark.parametrize("name", ["latency_us", "latency", "milliseconds"])
def test_a_column_of_another_unit_is_refused(filled, name):
    rows = [
        {(name if key == "latency_ms" else key): value for key, value in row.items()}
        for row in rows_of(filled / "latencies.csv")
    ]
    write_rows(filled / "latencies.csv", rows)
    with pytest.raises(LatencyError, match=f"milliseconds.*, but has .*{name}") as error:
        read(filled)
    assert error.value.field == "latency_ms"


@pytest.mark.parametrize("other", [small, lambda: tiny_space(resolution=16)])
def test_a_form_of_another_space_is_refused(filled, other):
    with pytest.raises(LatencyError, match=r"tiny, 3 x 8 x 8, 3 classes") as error:
        read(filled, other())
    assert error.value.field == "space"


@pytest.mark.parametrize(
    ("change_facts", "message"),
    [
        (lambda facts: json.dumps({**facts, "version": 99}), "is 99 in"),
        (lambda facts: json.dumps({**facts, "seed": "0"}), "`form.seed` must be"),
        (lambda _: "{", "is damaged"),
        (lambda _: None, "No such file"),
    ],
)
def test_a_form_without_its_facts_or_with_damaged_ones_is_refused(filled, change_facts, message):
    path = filled / "form.json"
    text = change_facts(json.loads(path.read_text()))
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(LatencyError, match=message):
        read(filled)


def test_a_form_is_not_written_over_something(filled):
    with pytest.raises(LatencyError) as error:
        write_form(tiny_space(), filled, most_blocks=400, check=0)
    assert error.value.field == "write_blocks"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", None])
def test_a_file_that_is_no_table_is_refused(filled, content):
    (filled / "latencies.csv").unlink()
    if content is not None:
        (filled / "latencies.csv").write_bytes(content)
    with pytest.raises(LatencyError, match=r"latencies\.csv"):
        read(filled)
