"""A latency table predicts networks, survives its file, and refuses what it is not for."""

import json
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.table.file import VERSION, table_to_data
from nas.latency.table.session import Latency, make_table, plan_table
from nas.latency.table.table import BlockLatency, LatencyTable, SpaceFacts
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


@pytest.fixture(scope="module")
def table():
    return table_of(check=12)


@pytest.fixture(scope="module")
def space():
    return small_space()


def table_by_rule(space, *, check=8, **plan):
    """A table whose latencies are the rule's, without a session."""
    made = plan_table(space, check=check, **plan)
    latencies = {block.key: Latency(latency_ms=block_truth_ms(block)) for block in made.blocks}
    latencies |= {one.digest: Latency(latency_ms=network_truth_ms(one)) for one in made.networks}
    return make_table(made, latencies, device_name="Rule", environment="none")


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


def test_the_file_says_its_errors_to_other_programs(table):
    data = json.loads(json.dumps(table_to_data(table)))
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
    with pytest.raises(LatencyError, match=r"the latency table is for small, 3 x 16 x 16, 4 classes, but"):
        table.predict_many(space, [[0] * len(space.decisions)])


def test_an_equal_space_is_accepted(table):
    space = small_space()
    assert table.predict_many(space, [[0] * len(space.decisions)])[0] > 0


def test_wrong_tokens_are_the_spaces_own_mistake(table, space):
    with pytest.raises(SpaceError, match="candidates must be integers"):
        table.predict_many(space, [[0]])


@pytest.mark.parametrize(
    "settings", [DeviceSettings(device="cpu", threads=2), DeviceSettings(device="onnx-cpu")]
)
def test_other_settings_are_refused(table, settings):
    table.require(SETTINGS)
    with pytest.raises(LatencyError, match=f"is for {SETTINGS.text}, but {settings.text} was asked for"):
        table.require(settings)
    with pytest.raises(LatencyError, match="measured by other means on Pixel"):
        replace(table, settings=None, device_name="Pixel").require(settings)


def test_a_block_at_another_resolution_is_named_with_the_inputs_that_are_known(table):
    network = small(resolution=32, num_classes=4).reference
    with pytest.raises(
        LatencyError, match=r"the block of stem \(Conv, .*input 3 x 32 x 32\).*3 x 16 x 16 only"
    ):
        table.predict(network)


def test_a_block_of_another_kind_is_named(table, space):
    network = replace(space.reference, stem=Stage(op=Conv(kernel_size=7), channels=16, stride=2))
    with pytest.raises(
        LatencyError, match=r"block of stem \(Conv, k7x7, .*is not in the latency table of small"
    ):
        table.predict(network)


def test_a_block_with_another_activation_is_known_to_be_another_version(table, space):
    network = replace(space.reference, activation="relu")
    with pytest.raises(LatencyError, match=r"is in the latency table with other layers: the op, or"):
        table.predict(network)


KERNEL = {"size": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOp:
    """An op of a person's own; its layers change from one version to the next."""

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
        with pytest.raises(LatencyError, match=r"OwnOp\(groups=1\), .*was changed since"):
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
    with pytest.raises(LatencyError, match=r"`latency_ms > 0` must hold for block abc"):
        BlockLatency(key="abc", stage="stem", words="", in_shape=(3, 8, 8), macs=1, latency_ms=value)


def _without(*path):
    def spoil(data):
        inner = data
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]

    return spoil


def _with(value, *path):
    def spoil(data):
        inner = data
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_with("other", "format"), "it is no latency table"),
        (
            _with(VERSION + 1, "version"),
            f"is of version {VERSION + 1}, but this program reads up to {VERSION}",
        ),
        (_with("1", "version"), "`version` must be an integer"),
        (_without("blocks"), "has no `blocks`"),
        (_with([], "blocks"), "a list of at least one block"),
        (_without("blocks", 3, "latency_ms"), r"blocks\[3\] has no `latency_ms`"),
        (_with("fast", "blocks", 3, "latency_ms"), r"`blocks\[3\].latency_ms` must be float, but got 'fast'"),
        (_with(True, "blocks", 3, "latency_ms"), r"`blocks\[3\].latency_ms` must be float"),
        (_with(-1.0, "blocks", 3, "latency_ms"), "`latency_ms > 0` must hold"),
        (_with([3, 8], "blocks", 3, "in_shape"), r"`blocks\[3\].in_shape` must have 3 values, but got 2"),
        (_with(-1.0, "correction", "per_ms"), "`per_ms >= 0` must hold"),
        (_with("toaster", "settings", "device"), "but got 'toaster'"),
        (_with([], "check", "networks"), "at least one network"),
        (_without("check", "networks", 0, "predicted_ms"), r"check.networks\[0\] has no `predicted_ms`"),
        (_with(7, "space", "name"), "`space.name` must be str, but got 7"),
        (_without("space"), "has no `space`"),
    ],
)
def test_a_damaged_file_is_refused_with_the_field_that_is_wrong(table, tmp_path, spoil, message):
    data = json.loads(json.dumps(table_to_data(table)))
    spoil(data)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(LatencyError, match=message) as error:
        LatencyTable.load(path)
    assert str(path) in str(error.value)


def test_a_repeated_block_is_refused(table, tmp_path):
    replace(table, blocks=(*table.blocks, table.blocks[0])).save(tmp_path / "table.json")
    with pytest.raises(LatencyError, match="stand in the table once"):
        LatencyTable.load(tmp_path / "table.json")


def test_what_is_no_json_or_not_there_is_refused(tmp_path):
    with pytest.raises(LatencyError, match="cannot be read: No such file"):
        LatencyTable.load(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"format": "nas-lat')
    with pytest.raises(LatencyError, match=r"is no JSON .*: it is damaged"):
        LatencyTable.load(tmp_path / "cut.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(LatencyError, match="it is no latency table"):
        LatencyTable.load(tmp_path / "list.json")


def test_a_file_that_cannot_be_written_leaves_nothing(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LatencyError, match="cannot be written"):
        table.save(tmp_path / "file" / "table.json")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_facts_of_a_space_that_chooses_its_resolution_leave_it_open():
    template = replace(small_space().template, resolution=choice(16, 32))
    assert SpaceFacts.of(SearchSpace(template)).resolution is None


def test_every_block_of_the_space_is_in_the_table(table, space):
    assert {block.key for block in table.blocks} == {block.key for block in find_blocks(space).blocks}
