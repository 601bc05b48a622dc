"""The form for measuring elsewhere: what is written can be filled in, and mistakes are named by their row."""

import csv
import json
import shutil

import numpy as np
import onnxruntime
import pytest

from nas.errors import LatencyError
from nas.latency.table.csv_form import read_form, write_form
from nas.latency.table.session import plan_table
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, small

from .synthetic import block_truth_ms, network_truth_ms

CHECK = 5


def tiny_space(resolution=8):
    """24 networks of at most 3 blocks beside stem and head."""
    stage = Stage(
        op=MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3)), channels=8, repeats=choice(1, 2)
    )
    last = Stage(op=choice(Conv(), MBConv(), MBConv(kernel_size=5)), channels=8, stride=2)
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8, stride=2),
            stages=(stage, last),
            head=Head(channels=16),
            resolution=resolution,
            num_classes=3,
        ),
        name="tiny",
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("form") / "pixel"
    plan = plan_table(tiny_space(), check=CHECK)
    models = write_form(plan, folder, most_blocks=400, check=CHECK)
    assert models == len(plan.blocks) + CHECK
    return folder


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
def filled(written, tmp_path):
    """The form with the latencies of the rule filled in."""
    folder = tmp_path / "pixel"
    shutil.copytree(written, folder)
    plan = plan_table(tiny_space(), check=CHECK)
    truth = {block.key: block_truth_ms(block) for block in plan.blocks}
    truth |= {network.digest: network_truth_ms(network) for network in plan.networks}
    for name in ("blocks.csv", "networks.csv"):
        change(folder / name, lambda rows: [row.update(latency_ms=truth[row["key"]]) for row in rows])
    return folder


def read(folder, space=None):
    return read_form(space or tiny_space(), folder, device_name="Pixel 8")


def test_every_model_runs_on_an_input_of_the_shape_that_its_row_says(written):
    rows = rows_of(written / "blocks.csv") + rows_of(written / "networks.csv")
    for row in rows:
        session = onnxruntime.InferenceSession(written / row["file"])
        shape = tuple(int(row[name]) for name in ("channels", "height", "width"))
        (found,) = session.run(None, {session.get_inputs()[0].name: np.zeros((1, *shape), np.float32)})
        assert found.shape[0] == 1
    assert {row["latency_ms"] for row in rows} == {""}
    assert len({row["key"] for row in rows}) == len(rows)


def test_a_filled_form_gives_a_table_that_predicts(filled):
    table = read(filled)
    assert (table.device_name, table.settings, table.session) == ("Pixel 8", None, None)
    assert table.check.n == CHECK
    assert table.check.repeat_error is None
    assert {block.n for block in table.blocks} == {1}
    space = tiny_space()
    network = space.decode(space.sample(np.random.default_rng(0)))
    assert table.predict(network) == pytest.approx(network_truth_ms(network), rel=0.02)


def test_the_blocks_file_may_be_named_in_place_of_the_folder(filled):
    assert read(filled / "blocks.csv") == read(filled)


@pytest.mark.parametrize("is_empty", [True, False])
def test_without_networks_there_is_a_table_and_no_error_is_stated(filled, is_empty):
    if is_empty:
        change(filled / "networks.csv", lambda rows: [row.update(latency_ms="") for row in rows])
    else:
        (filled / "networks.csv").unlink()
    table = read(filled)
    assert table.check is None
    assert table.correction.networks == 0
    assert "no error can be stated" in table.error_text
    assert "not corrected" in table.environment


def test_some_networks_suffice(filled):
    change(filled / "networks.csv", lambda rows: rows[0].update(latency_ms=""))
    assert read(filled).check.n == CHECK - 1


def test_other_columns_and_another_order_do_no_harm(filled):
    rows = [{"note": "x", **row} for row in reversed(rows_of(filled / "blocks.csv"))]
    before = read(filled)
    write_rows(filled / "blocks.csv", rows, columns=["note", "latency_ms", "key", *list(rows[0])[2:-1]])
    assert read(filled) == before


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows.pop(1), r"blocks.csv lacks 1 of \d+ rows, the first \w{16} \(MBConv"),
        (lambda rows: rows[2].update(latency_ms=""), r"has no latency_ms in 1 of \d+ rows, the first \w{16}"),
        (lambda rows: rows.append(rows[0]), r"row \d+: \w{16} stands in row 2 already"),
        (lambda rows: rows[1].update(key="abc"), r"blocks.csv, row 3: 'abc' is no key of this form"),
        (lambda rows: rows[1].update(latency_ms="0"), r"row 3: `latency_ms > 0` must hold, but got 0"),
        (lambda rows: rows[1].update(latency_ms="-2"), r"row 3: `latency_ms > 0` must hold"),
        (lambda rows: rows[1].update(latency_ms="nan"), r"row 3: `latency_ms > 0` must hold"),
        (lambda rows: rows[1].update(latency_ms="1,5"), r"row 3: .*got '1,5': write a decimal point"),
        (lambda rows: rows[1].update(latency_ms="2 ms"), r"row 3: .*got '2 ms': .*without a unit"),
    ],
)
def test_a_mistake_in_a_row_is_named(filled, edit, message):
    change(filled / "blocks.csv", edit)
    with pytest.raises(LatencyError, match=message):
        read(filled)


@pytest.mark.parametrize("name", ["latency_us", "latency", "milliseconds"])
def test_a_column_of_another_unit_is_refused(filled, name):
    rows = [
        {(name if key == "latency_ms" else key): value for key, value in row.items()}
        for row in rows_of(filled / "blocks.csv")
    ]
    write_rows(filled / "blocks.csv", rows)
    with pytest.raises(LatencyError, match=f"one column latency_ms, in milliseconds, but it has .*{name}"):
        read(filled)


def test_a_form_of_another_space_is_refused(filled):
    with pytest.raises(
        LatencyError, match=r"another space \(tiny, 8 pixels\) than the one asked for, small, "
    ):
        read(filled, small())
    with pytest.raises(LatencyError, match="another space"):
        read(filled, tiny_space(resolution=16))


def test_a_form_without_its_facts_or_with_damaged_ones_is_refused(filled):
    facts = json.loads((filled / "form.json").read_text())
    (filled / "form.json").write_text(json.dumps({**facts, "version": 99}))
    with pytest.raises(LatencyError, match="is of version 99"):
        read(filled)
    (filled / "form.json").write_text("{")
    with pytest.raises(LatencyError, match="is damaged"):
        read(filled)
    (filled / "form.json").unlink()
    with pytest.raises(LatencyError, match="keep the form's files together"):
        read(filled)


def test_a_form_is_not_written_over_something(written):
    plan = plan_table(tiny_space(), check=0)
    with pytest.raises(LatencyError, match="a form needs a new folder"):
        write_form(plan, written, most_blocks=400, check=0)


def test_a_file_that_is_no_table_is_refused(filled):
    (filled / "blocks.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LatencyError, match="cannot be read"):
        read(filled)
    (filled / "blocks.csv").write_text("")
    with pytest.raises(LatencyError, match="but it has nothing"):
        read(filled)
