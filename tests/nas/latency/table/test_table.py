"""A latency table predicts networks, survives its file, and refuses what it is not for."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from nas.errors import LatencyError
from nas.latency.session import Timing
from nas.latency.table.building import make_table, plan_table
from nas.latency.table.table import VERSION, BlockLatency, LatencyTable, SpaceFacts
from search_spaces import (
    Context,
    Conv,
    Head,
    MBConv,
    Network,
    SearchSpace,
    SpaceError,
    Stage,
    choice,
    efficientnet,
    find_blocks,
    mnasnet,
    small,
)
from search_spaces.primitives import Chain

from .synthetic import SETTINGS, block_truth_ms, network_truth_ms, small_space, table_of

GOLDEN = Path(__file__).parents[2] / "golden" / "latency-1"


@pytest.fixture(scope="module")
def table():
    return table_of(check=12)


@pytest.fixture(scope="module")
def space():
    return small_space()


def table_by_rule(space, *, check=8, **plan):
    """A table whose latencies are the rule's, without a session."""
    made = plan_table(space, check=check, **plan)
    latencies = {block.key: block_truth_ms(block) for block in made.blocks}
    latencies |= {one.digest: network_truth_ms(one) for one in made.networks}
    timings = {
        key: Timing(name=key, samples_ms=(value,), normalised_ms=(value,), calls=1, is_settled=True)
        for key, value in latencies.items()
    }
    return make_table(made, timings, device_name="Rule", environment="none")


@pytest.mark.parametrize(
    "space",
    [small_space(), efficientnet(resolution=64), mnasnet(resolution=32), mnasnet(resolution=32, flat=True)],
    ids=lambda space: space.name,
)
def test_predictions_of_many_equal_those_of_each(space):
    table = table_by_rule(space)
    tokens = space.sample_many(np.random.default_rng(0), 30)
    each = [table.predict(space.decode(row)) for row in tokens.tolist()]
    np.testing.assert_allclose(table.predict_many(space, tokens), each, rtol=1e-12)
    assert table.predict_many(space, tokens[:0]).shape == (0,)


def test_predictions_are_the_truth_where_nothing_is_noisy(space):
    table = table_by_rule(space)
    network = space.decode(space.sample(np.random.default_rng(5)))
    assert table.predict(network) == pytest.approx(network_truth_ms(network), rel=1e-6)
    assert table.check.mape < 1e-6


def test_the_range_is_that_of_all_networks(space):
    table = table_by_rule(space)
    tokens = space.sample_many(np.random.default_rng(1), 3000)
    found = table.predict_many(space, tokens)
    assert table.range.origin == "all networks of the space"
    assert table.range.least_ms <= found.min() <= found.max() <= table.range.most_ms
    assert table.range.least_ms == pytest.approx(found.min(), rel=0.2)
    assert table.range.most_ms == pytest.approx(found.max(), rel=0.2)


def test_the_range_of_a_tied_space_is_that_of_a_sample():
    table = table_by_rule(small_space(flat=True))
    assert "random networks" in table.range.origin


def test_a_table_survives_its_file(table, space, tmp_path):
    path = tmp_path / "sub" / "table.json"
    table.save(path)
    again = LatencyTable.load(path)
    assert again == table
    assert again.fingerprint == table.fingerprint
    tokens = space.sample_many(np.random.default_rng(2), 20)
    assert np.array_equal(again.predict_many(space, tokens), table.predict_many(space, tokens))
    assert [file.name for file in path.parent.iterdir()] == ["table.json"]


def test_a_table_with_estimates_survives_its_file(tmp_path):
    table = table_of(most_blocks=45, check=6)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table


def test_a_table_goes_to_another_process(table, space):
    tokens = space.sample_many(np.random.default_rng(2), 5)
    before = table.predict_many(space, tokens)
    assert np.array_equal(pickle.loads(pickle.dumps(table)).predict_many(space, tokens), before)


def test_a_table_of_the_version_before_predicts_as_it_did(space, tmp_path):
    expected = json.loads((GOLDEN / "expected.json").read_text())
    table = LatencyTable.load(GOLDEN / "table.json")
    assert table.fingerprint == expected["fingerprint"]
    assert table.predict_many(space, expected["tokens"]).tolist() == expected["latencies_ms"]
    assert table.check.mape == pytest.approx(expected["mape"])
    assert table.check.tau == pytest.approx(expected["tau"])
    assert (table.session.rounds, table.estimator.blocks) == (6, 45)
    assert table.flags == ("others used 12 % of the CPU before the sitting",)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table


def test_a_table_that_called_the_sitting_a_session_already_is_read_too(tmp_path):
    path = tmp_path / "table.json"
    path.write_text((GOLDEN / "table.json").read_text().replace('"sitting":', '"session":'))
    assert LatencyTable.load(path) == LatencyTable.load(GOLDEN / "table.json")


def test_the_file_says_its_errors_to_other_programs(table, tmp_path):
    table.save(tmp_path / "table.json")
    data = json.loads((tmp_path / "table.json").read_text())
    assert (data["format"], data["version"]) == ("nas-latency-table", VERSION)
    assert data["check"]["mape"] == table.check.mape
    assert data["blocks"][0].keys() >= {"key", "words", "in_shape", "macs", "latency_ms", "n"}
    assert data["settings"]["threads"] == 1


def test_the_fingerprint_changes_with_what_is_predicted(table):
    slower = tuple(replace(block, latency_ms=2 * block.latency_ms) for block in table.blocks)
    assert replace(table, blocks=slower).fingerprint != table.fingerprint
    assert replace(table, correction=replace(table.correction, per_ms=9.0)).fingerprint != table.fingerprint
    assert replace(table, environment="elsewhere").fingerprint == table.fingerprint


def test_the_origin_says_device_and_error(table):
    assert "Synthetic" in table.origin
    assert SETTINGS.text in table.origin
    assert table.error_text in table.origin
    assert table.error_text.startswith("MAPE ")


def test_a_table_without_networks_states_no_error(space):
    table = table_by_rule(space, check=0)
    assert table.check is None
    assert "no error can be stated" in table.error_text
    assert table.correction.networks == 0


@pytest.mark.parametrize(
    "other",
    [
        lambda: small(resolution=20, num_classes=4),
        lambda: small(resolution=16, num_classes=5),
        lambda: efficientnet(),
        lambda: small(resolution=16, num_classes=4, width=0.5),
    ],
)
def test_another_space_is_refused(table, other):
    space = other()
    with pytest.raises(
        LatencyError, match=r"the latency table is for small, 3 x 16 x 16, 4 classes"
    ) as error:
        table.predict_many(space, [[0] * len(space.decisions)])
    assert error.value.field == "space"


def test_an_equal_space_is_accepted(table):
    space = small_space()
    assert table.predict_many(space, [[0] * len(space.decisions)])[0] > 0


def test_wrong_tokens_are_the_spaces_own_mistake(table, space):
    with pytest.raises(SpaceError, match="candidates must be integers"):
        table.predict_many(space, [[0]])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (
            lambda network: replace(network, resolution=32),
            r"stem \(Conv, .*input 3 x 32 x 32\)",
        ),
        (
            lambda network: replace(network, stem=Stage(op=Conv(kernel_size=7), channels=16, stride=2)),
            r"stem \(Conv, k7x7, ",
        ),
        (lambda network: replace(network, activation="relu"), "the layers that it has now"),
    ],
    ids=["resolution", "op", "activation"],
)
def test_a_block_that_is_not_in_the_table_is_named(table, space, change, name):
    with pytest.raises(LatencyError, match=name):
        table.predict(change(space.reference))


KERNEL = {"size": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOp:
    """A user's own op; its layers change from one version to the next."""

    groups: int = 1

    def check(self):
        pass

    def layers(self, context: Context) -> Chain:
        kernel_size = KERNEL["size"]
        return context.convolution(
            context.out_channels, kernel_size, stride=context.stride, groups=self.groups
        )


def own_space():
    op = choice(OwnOp(groups=1), OwnOp(groups=2), OwnOp(groups=4), MBConv())
    stages = tuple(Stage(op=op, channels=16, repeats=choice(1, 2, 3), stride=2) for _ in range(2))
    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2), stages=stages, head=Head(), resolution=32, num_classes=4
    )
    return SearchSpace(template, name="own")


def test_an_op_that_was_changed_since_is_known_to_be_another_version(monkeypatch):
    from search_spaces import lowering

    table = table_by_rule(own_space())
    assert table.is_complete
    monkeypatch.setitem(KERNEL, "size", 5)
    kept = (lowering._node_of, lowering._tally_block, lowering.tally_stage, lowering.lower_stage)
    for cache in kept:
        cache.cache_clear()
    try:
        network = own_space().decode([0, 0, 0])
        with pytest.raises(LatencyError, match=r"OwnOp\(groups=1\), .*the layers that it has now"):
            table.predict(network)
    finally:
        for cache in kept:
            cache.cache_clear()


def test_a_block_that_no_drawn_network_had_is_estimated(monkeypatch):
    monkeypatch.setattr("search_spaces.blocks.MOST_LISTED", 1)
    space = small_space()
    monkeypatch.setattr(type(space), "distinct_parts", lambda _: None)
    table = table_by_rule(space, check=10)
    assert not table.is_complete
    few = replace(table, blocks=table.blocks[1:])
    assert few.predict(space.reference) == pytest.approx(table.predict(space.reference), rel=0.5)
    with pytest.raises(LatencyError, match="is not in the latency table"):
        replace(few, is_complete=True).predict(space.reference)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_no_time_is_refused(value):
    with pytest.raises(LatencyError, match="block abc") as error:
        BlockLatency(key="abc", stage="stem", words="", in_shape=(3, 8, 8), macs=1, latency_ms=value)
    assert error.value.field == "latency_ms"


MISSING = object()


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("format",), "other", ""),
        (("version",), VERSION + 1, ""),
        (("version",), "1", ""),
        (("blocks",), MISSING, "table.blocks"),
        (("blocks",), [], "blocks"),
        (("blocks", 3, "latency_ms"), MISSING, "table.blocks[3].latency_ms"),
        (("blocks", 3, "latency_ms"), "fast", "table.blocks[3].latency_ms"),
        (("blocks", 3, "latency_ms"), True, "table.blocks[3].latency_ms"),
        (("blocks", 3, "latency_ms"), -1.0, "latency_ms"),
        (("blocks", 3, "in_shape"), [3, 8], "table.blocks[3].in_shape"),
        (("correction", "per_ms"), -1.0, "per_ms"),
        (("settings", "device"), "toaster", "device"),
        (("check", "networks"), [], "networks"),
        (("check", "networks", 0, "predicted_ms"), MISSING, "table.check.networks[0].predicted_ms"),
        (("space", "name"), 7, "table.space.name"),
        (("space",), "small", "table.space"),
    ],
)
def test_a_damaged_file_is_refused_with_the_field_that_is_wrong(table, tmp_path, path, value, field):
    file = tmp_path / "table.json"
    table.save(file)
    data = inner = json.loads(file.read_text())
    for name in path[:-1]:
        inner = inner[name]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(LatencyError) as error:
        LatencyTable.load(file)
    assert error.value.field == field
    assert str(file) in str(error.value)


def test_a_repeated_block_is_refused(table):
    with pytest.raises(LatencyError) as error:
        replace(table, blocks=(*table.blocks, table.blocks[0]))
    assert error.value.field == "blocks"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b'{"format": "nas-lat', "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[1]", "is another file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "table.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LatencyError, match=message):
        LatencyTable.load(path)


def test_a_file_that_cannot_be_written_leaves_nothing(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LatencyError) as error:
        table.save(tmp_path / "file" / "table.json")
    assert error.value.field == "out"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_facts_of_a_space_that_chooses_its_resolution_leave_it_open():
    template = replace(small_space().template, resolution=choice(16, 32))
    assert SpaceFacts.of(SearchSpace(template)).resolution is None


def test_every_block_of_the_space_is_in_the_table(table, space):
    assert {block.key for block in table.blocks} == {block.key for block in find_blocks(space).blocks}
