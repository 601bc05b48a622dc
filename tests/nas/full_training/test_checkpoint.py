import json
import multiprocessing
import resource
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save

from nas.errors import TrainingError
from nas.full_training.checkpoint import CHECKPOINT, VERSION, Best, Checkpoint, Row, State, read_checkpoint

IDENTITY = {"network": "0123", "recipe": "4567", "data": "89ab", "seed": "0"}

ROW = Row(
    epoch=1.0,
    step=8,
    learning_rate=0.1,
    loss=2.5,
    metric="accuracy",
    value=None,
    averaged_value=0.25,
    images_per_second=100.0,
    side=32,
)


def checkpoint(step=8):
    state = State(
        identity=IDENTITY,
        step=step,
        seconds=3.5,
        rows=(ROW,),
        best=Best(step=8, epoch=1.0, kind="averaged weights", metric="accuracy", value=0.25),
        rate_factor=0.3,
        notes=("went back",),
    )
    return Checkpoint(
        state=state,
        tensors={
            "module.w": torch.randn(3, 4),
            "module.count": torch.tensor(7),
            "optimizer.0.momentum": torch.randn(3, 4, dtype=torch.float64),
            "ema.w": torch.randn(3, 4).bfloat16(),
            "loss_sum": torch.tensor(1 / 3),
        },
        numbers={"optimizer_state": {"0": {"step": 3}}, "optimizer_groups": [{"lr": 0.1}]},
        best={"w": torch.randn(3, 4), "count": torch.tensor(7)},
    )


def refused(folder, identity=IDENTITY):
    with pytest.raises(TrainingError) as error:
        read_checkpoint(folder, identity)
    assert error.value.field == "out"
    assert str(folder) in str(error.value)
    return str(error.value)


def assert_same(found, written):
    assert found.state == written.state
    assert found.numbers == written.numbers
    for kind in ("tensors", "best"):
        one, other = getattr(found, kind), getattr(written, kind)
        assert one.keys() == other.keys()
        for name, tensor in other.items():
            assert one[name].dtype == tensor.dtype
            assert torch.equal(one[name], tensor)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    written = checkpoint()
    written.write(tmp_path)
    assert_same(read_checkpoint(tmp_path, IDENTITY), written)


def test_a_later_one_takes_the_place_of_the_one_before(tmp_path):
    checkpoint(step=8).write(tmp_path)
    later = checkpoint(step=9)
    later.write(tmp_path)
    assert_same(read_checkpoint(tmp_path, IDENTITY), later)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_folder_without_one_has_none(tmp_path):
    assert read_checkpoint(tmp_path, IDENTITY) is None
    assert read_checkpoint(tmp_path / "new", IDENTITY) is None


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path):
    written = checkpoint()
    written.write(tmp_path)
    (tmp_path / f".{CHECKPOINT}.0a1b2c3d.new").write_bytes(b"half")
    (tmp_path / "other.new").write_bytes(b"kept")
    assert_same(read_checkpoint(tmp_path, IDENTITY), written)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, "other.new"}


def test_one_that_was_cut_short_anywhere_is_refused(tmp_path):
    path = checkpoint().write(tmp_path)
    content = path.read_bytes()
    lengths = {0, 1, 7, 8, 9, len(content) - 1, *range(10, len(content), 37)}
    for length in lengths:
        path.write_bytes(content[:length])
        assert "cut short" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"\xff" * 100,
        b"PK\x03\x04 no checkpoint",
        save({"w": torch.zeros(2)}),
        save({"w": torch.zeros(2)}, metadata={"training": "no json"}),
        save({"w": torch.zeros(2)}, metadata={"training": "[]"}),
        save({"w": torch.zeros(2)}, metadata={"training": "{}"}),
        save({"w": torch.zeros(2)}, metadata={"training": f'{{"version": {VERSION}}}'}),
        save(
            {"w": torch.zeros(2)},
            metadata={"training": f'{{"version": {VERSION}, "state": {{}}, "numbers": {{}}}}'},
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / CHECKPOINT).write_bytes(content)
    assert "no checkpoint" in refused(tmp_path)


def test_a_folder_in_its_place_is_refused(tmp_path):
    (tmp_path / CHECKPOINT).mkdir()
    assert "cannot be read" in refused(tmp_path)


def test_one_without_the_numbers_of_the_optimiser_is_refused(tmp_path):
    facts = {"version": VERSION, "state": {"identity": IDENTITY, "rows": [], "best": None, "notes": []}}
    content = save({"w": torch.zeros(2)}, metadata={"training": json.dumps(facts)})
    (tmp_path / CHECKPOINT).write_bytes(content)
    assert "numbers" in refused(tmp_path)


def test_one_of_another_version_is_refused_whatever_it_holds(tmp_path):
    facts = {"version": VERSION + 1, "new": True}
    content = save({"w": torch.zeros(2)}, metadata={"training": json.dumps(facts)})
    (tmp_path / CHECKPOINT).write_bytes(content)
    message = refused(tmp_path)
    assert f"version {VERSION + 1}" in message
    assert "cut short" not in message


@pytest.mark.parametrize(
    ("identity", "differing"),
    [
        ({**IDENTITY, "recipe": "x"}, "another recipe:"),
        ({**IDENTITY, "data": "x", "seed": "1"}, "another data, seed:"),
        ({"network": "0123", "recipe": "4567", "data": "89ab"}, "another seed:"),
        ({**IDENTITY, "weights": "w"}, "another weights:"),
    ],
)
def test_one_of_another_training_is_refused_with_what_differs(tmp_path, identity, differing):
    checkpoint().write(tmp_path)
    assert differing in refused(tmp_path, identity)


def write_on_a_full_disk(folder, queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    state = State(identity=IDENTITY, step=9)
    try:
        Checkpoint(state=state, tensors={"w": torch.zeros(100_000)}).write(folder)
    except OSError as error:
        queue.put(error.strerror)


def test_a_full_disk_leaves_the_one_before_and_no_scratch_file(tmp_path):
    written = checkpoint()
    written.write(tmp_path)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=write_on_a_full_disk, args=(tmp_path, queue))
    process.start()
    process.join()
    assert not queue.empty()
    assert queue.get() == "File too large"
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert_same(read_checkpoint(tmp_path, IDENTITY), written)


def test_a_checkpoint_of_version_1_is_read_with_its_accuracies(tmp_path):
    written = checkpoint()
    state = asdict(written.state)
    for one in (*state["rows"], state["best"]):
        assert one.pop("metric") == "accuracy"
        one["accuracy"] = one.pop("value")
        if "averaged_value" in one:
            one["averaged_accuracy"] = one.pop("averaged_value")
    facts = {"version": 1, "state": state, "numbers": {}}
    content = save(dict(written.tensors), metadata={"training": json.dumps(facts)})
    (tmp_path / CHECKPOINT).write_bytes(content)
    assert read_checkpoint(tmp_path, IDENTITY).state == written.state


@pytest.mark.parametrize(("metric", "better", "worse"), [("accuracy", 0.5, 0.25), ("rmse", 0.25, 0.5)])
def test_the_better_of_two_has_the_larger_reward(metric, better, worse):
    one, other = (
        Best(step=1, epoch=1.0, kind="weights", metric=metric, value=value) for value in (better, worse)
    )
    assert one.reward > other.reward
