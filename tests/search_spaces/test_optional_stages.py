"""Stages that may be absent: `repeats=choice(0, 1, 2)`, in every use that a network has."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import (
    Conv,
    DepthwiseSeparable,
    FusedMBConv,
    Head,
    MBConv,
    Network,
    SearchSpace,
    SpaceError,
    SqueezeExcite,
    Stage,
    build,
    choice,
    cost,
    describe,
    load_weights,
    lower,
    memory,
    parse,
    scale,
    to_source,
    to_strings,
)
from search_spaces.part_sums import inference_parts
from search_spaces.scaling import Rule
from search_spaces.testing import check_network, check_space

from .conftest import make_network
from .test_cost_tables import one_by_one, random_tokens
from .test_costs import activations_counted_by_others, counted_by_others


def optional_space(**fields):
    """Every stage may be absent, those with a stride and other channels among them."""
    return SearchSpace(
        make_network(
            Stage(
                op=MBConv(kernel_size=choice(3, 5), se_ratio=choice(0.0, 0.25)),
                channels=8,
                repeats=choice(0, 1, 2),
            ),
            Stage(
                op=choice(FusedMBConv(expand_ratio=choice(1, 4)), DepthwiseSeparable()),
                channels=choice(16, 24),
                repeats=choice(1, 0),
                stride=choice(1, 2),
            ),
            Stage(op=Conv(kernel_size=choice(1, 3)), channels=32, repeats=choice(0, choice(1, 3)), stride=2),
            **fields,
        )
    )


SPACE = optional_space()

PRESENT = make_network(
    Stage(op=MBConv(se_ratio=0.25), channels=16, repeats=2, stride=2),
    Stage(op=FusedMBConv(), channels=24),
    drop_path_rate=0.2,
)


def with_absent(network, place, **fields):
    """The same layers, with a stage of no blocks at a place among the stages."""
    absent = Stage(**{"op": MBConv(kernel_size=7), "channels": 48, "stride": 2, **fields, "repeats": 0})
    return replace(network, stages=(*network.stages[:place], absent, *network.stages[place:]))


PLACES = pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])


@PLACES
def test_an_absent_stage_means_the_layers_without_it(place):
    network = with_absent(PRESENT, place)
    assert network.digest == PRESENT.digest
    assert cost(network) == cost(PRESENT)
    assert memory(network) == memory(PRESENT)
    assert [part.node for part in lower(network)] == [part.node for part in lower(PRESENT)]
    assert [part.node for part in inference_parts(network)] == [p.node for p in inference_parts(PRESENT)]
    assert [row.layers for row in describe(network)] == [row.layers for row in describe(PRESENT)]


@PLACES
def test_an_absent_stage_has_neither_row_child_string_nor_line_of_source(place):
    network = with_absent(PRESENT, place)
    name = f"stage{place + 1}"
    numbers = [number for number in (1, 2, 3) if number != place + 1]
    names = ["stem", *(f"stage{number}" for number in numbers), "head"]
    assert [row.stage for row in describe(network)] == names
    assert [part.name for part in lower(network)] == names
    assert [name for name, _ in build(network, seed=0).named_children()] == names
    assert f"self.{name} " not in to_source(network)
    for dialect in ("mnasnet", "timm"):
        assert to_strings(network, dialect) == to_strings(PRESENT, dialect)
    check_network(network)


@PLACES
def test_an_absent_stage_stays_absent_when_a_network_is_scaled(place):
    for rule in (Rule(), Rule(scales_ends=False)):
        scaled = scale(with_absent(PRESENT, place), depth=3.0, width=1.5, rule=rule)
        assert scaled.stages[place].repeats == 0
        assert scaled.digest == scale(PRESENT, depth=3.0, width=1.5, rule=rule).digest


@PLACES
def test_weights_go_between_descriptions_of_equal_layers(place):
    source = build(PRESENT, seed=1)
    module = build(with_absent(PRESENT, place), seed=2)
    load_weights(module, {f"their_{name}": tensor for name, tensor in source.state_dict().items()})
    for one, other in zip(module.state_dict().values(), source.state_dict().values(), strict=True):
        assert one.equal(other)


@PLACES
def test_json_keeps_an_absent_stage(place):
    network = with_absent(PRESENT, place)
    assert Network.from_json(network.to_json()) == network


def test_without_any_stage_the_stem_feeds_the_head():
    network = make_network(Stage(op=MBConv(), channels=16, repeats=0, stride=2), drop_path_rate=0.2)
    assert [part.name for part in lower(network)] == ["stem", "head"]
    assert (cost(network).macs, cost(network).params) == counted_by_others(network)
    check_network(network)
    with pytest.raises(SpaceError, match="at least one stage with blocks"):
        to_strings(network)
    assert scale(network, phi=1).stages[0].repeats == 0


def test_the_stride_of_an_absent_stage_reduces_nothing():
    network = make_network(
        Stage(op=Conv(), channels=16, repeats=0, stride=2), Stage(op=Conv(), channels=16, stride=2)
    )
    assert [part.out_shape.height for part in lower(network)[:2]] == [8, 4]


def test_an_absent_stage_needs_no_room_for_its_stride():
    tiny = make_network(
        Stage(op=Conv(), channels=16, repeats=choice(0, 1), stride=2),
        stem=Stage(op=Conv(), channels=8, stride=choice(1, 2)),
        resolution=2,
    )
    space = SearchSpace(tiny)
    tokens = [[0, 1], [1, 0], [0, 0]]
    assert space.are_within([*tokens, [1, 1]]).tolist() == [True, True, True, False]
    assert [tuple(row) for row in space.costs(tokens).tolist()] == [one_by_one(space, t) for t in tokens]


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({"stem": Stage(op=Conv(), channels=8, repeats=0)}, "1 <= repeats .*repeats=0 in stem"),
        ({"stages": (Stage(op=Conv(), channels=8, repeats=-1),)}, "0 <= repeats .*repeats=-1 in stage1"),
        ({"stages": (Stage(op=Conv(), channels=8, repeats=False),)}, "repeats=False in stage1"),
        ({"stages": (Stage(op=Conv(), channels=0, repeats=0),)}, "channels=0 in stage1"),
        ({"stages": (Stage(op=MBConv(kernel_size=4), channels=8, repeats=0),)}, "kernel_size=4 in stage1"),
    ],
)
def test_what_an_absent_stage_says_keeps_its_laws(fields, law):
    with pytest.raises(SpaceError, match=law):
        make_network(*PRESENT.stages, **fields)


def test_a_stem_that_may_be_absent_is_refused_when_the_space_is_made():
    with pytest.raises(SpaceError, match=r"option 0 .*repeats=0 in stem"):
        SearchSpace(make_network(PRESENT.stages[0], stem=Stage(op=Conv(), channels=8, repeats=choice(0, 1))))


def test_other_decisions_of_a_stage_exist_only_where_it_has_blocks():
    names = [decision.name for decision in SPACE.decisions]
    conditions = {
        decision.name: [(names[parent], tokens) for parent, tokens in decision.conditions]
        for decision in SPACE.decisions
    }
    first = [("stages[0].repeats", (1, 2))]
    assert conditions["stages[0].op.kernel_size"] == conditions["stages[0].op.se_ratio"] == first
    assert conditions["stages[1].op"] == conditions["stages[1].channels"] == [("stages[1].repeats", (0,))]
    assert conditions["stages[1].op.FusedMBConv.expand_ratio"] == [("stages[1].op", (0,))]
    assert conditions["stages[2].repeats"] == []
    inner = next(d for d in SPACE.decisions if d.options == (1, 3))
    assert conditions[inner.name] == [("stages[2].repeats", (1,))]
    assert conditions["stages[2].op.kernel_size"] == [(inner.name, (0, 1))]


def test_the_size_counts_an_absent_stage_once():
    assert SPACE.size == (1 + 2 * 4) * (1 + 3 * 2 * 2) * (1 + 2 * 2)
    every = itertools.product(*(range(count) for count in SPACE.cardinalities))
    assert len({SPACE.canonical(tokens) for tokens in every}) == SPACE.size


def test_candidates_that_differ_only_in_an_absent_stage_are_one():
    rng = np.random.default_rng(0)
    for tokens in random_tokens(SPACE, 60).tolist():
        canonical = SPACE.canonical(tokens)
        assert SPACE.digest(tokens) == SPACE.digest(canonical)
        assert SPACE.encode(SPACE.decode(tokens)) == canonical
    assert all(SPACE.canonical(row) == tuple(row) for row in SPACE.sample_many(rng, 50).tolist())


def test_a_choice_tied_to_a_stage_that_is_always_there_is_always_there():
    kernel = choice(3, 5)
    space = SearchSpace(
        make_network(
            Stage(op=MBConv(kernel_size=kernel), channels=8),
            Stage(op=MBConv(kernel_size=kernel), channels=8, repeats=choice(0, 1)),
        )
    )
    assert [d.conditions for d in space.decisions] == [(), ()]
    assert space.size == 4


def test_a_choice_tied_between_optional_stages_exists_where_any_has_blocks():
    op = MBConv(kernel_size=choice(3, 5))
    space = SearchSpace(make_network(*(Stage(op=op, channels=8, repeats=choice(0, 1)) for _ in range(2))))
    assert space.size == 1 + 3 * 2


def test_a_tied_number_of_blocks_makes_stages_come_and_go_together():
    layers = choice(0, 1, 2, name="layers")
    stages = [Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8, repeats=layers) for _ in range(2)]
    assert SearchSpace(make_network(*stages)).size == 1 + 2 * 4


def test_optional_stages_within_a_chosen_tuple_of_stages_keep_the_contract():
    optional = Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8, repeats=choice(0, 1))
    always = Stage(op=Conv(), channels=16)
    space = SearchSpace(make_network(stages=choice((always,), (always, optional))))
    assert space.size == 1 + 1 + 2
    check_space(space)


def test_decisions_in_a_circle_are_refused():
    first, second = choice(0, 1, name="a"), choice(0, 1, 2, name="b")
    stages = choice(
        (Stage(op=Conv(), channels=8),),
        (
            Stage(op=Conv(), channels=second, repeats=first),
            Stage(op=Conv(), channels=first, repeats=second),
        ),
    )
    with pytest.raises(SpaceError, match=r"no decision may depend on itself.*names of their own"):
        SearchSpace(make_network(stages=stages))


def test_a_network_written_without_the_absent_stage_is_in_the_space():
    for tokens in random_tokens(SPACE, 40).tolist():
        network = SPACE.decode(tokens)
        present = tuple(stage for stage in network.stages if stage.repeats)
        if not present:
            continue
        short = replace(network, stages=present)
        assert SPACE.digest(SPACE.encode(short)) == short.digest == network.digest


def test_block_strings_of_a_candidate_are_read_back_into_the_space():
    tokens = [1] * len(SPACE.decisions)
    network = SPACE.decode(tokens)
    read = parse(
        to_strings(network, "timm"), stem=network.stem, head=network.head, resolution=16, num_classes=4
    )
    assert SPACE.digest(SPACE.encode(read)) == network.digest


def test_the_contract_of_spaces_holds():
    check_space(SPACE, samples=20)
    check_space(optional_space(drop_path_rate=0.2), samples=10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([15, 16, 33]))
def test_costs_equal_fvcore_and_the_module(seed, resolution):
    space = optional_space(
        resolution=resolution, squeeze_excite=SqueezeExcite(width_of="expanded"), head=Head(channels=0)
    )
    network = space.decode(space.sample(np.random.default_rng(seed)))
    counted = cost(network)
    assert (counted.macs, counted.params) == counted_by_others(network)
    assert counted.activations == activations_counted_by_others(network)


def test_costs_of_many_equal_the_costs_of_each():
    tokens = random_tokens(SPACE, 300)
    assert [tuple(record) for record in SPACE.costs(tokens).tolist()] == [
        one_by_one(SPACE, row) for row in tokens.tolist()
    ]


def test_sums_over_parts_pass_over_absent_stages():
    tokens = random_tokens(SPACE, 100)

    def value(part):
        assert part.node.layers, "nobody measures a part without layers"
        return float(part.cost.params + 1)

    sums = SPACE.sums(tokens, value)
    each = [sum(map(value, inference_parts(SPACE.decode(row)))) for row in tokens.tolist()]
    assert sums.tolist() == each
    assert all(part.node.layers for part in SPACE.distinct_parts())
    every = SPACE.sums(list(itertools.product(*(range(c) for c in SPACE.cardinalities))), value)
    assert SPACE.part_sums(value).extremes() == (every.min(), every.max())


def test_draws_within_bounds_are_those_of_rejection():
    every = np.array(list(itertools.product(*(range(count) for count in SPACE.cardinalities))))
    macs = SPACE.costs(every).macs
    assert SPACE.cost_range("macs") == (macs.min(), macs.max())
    bound = (int(macs.min()), int(np.quantile(macs, 0.1)))
    drawn = SPACE.sample_within(np.random.default_rng(0), 400, macs=bound)
    assert SPACE.are_within(drawn, macs=bound).all()
    wanted = {SPACE.canonical(row) for row in every[(macs >= bound[0]) & (macs <= bound[1])].tolist()}
    assert {tuple(row) for row in drawn.tolist()} <= wanted
    assert any(0 in [s.repeats for s in SPACE.decode(row).stages] for row in drawn.tolist())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_op_and_channel_of_an_optional_stage_is_checked_when_the_space_is_made(number):
    stages = list(SPACE.template.stages)
    stages[number] = replace(stages[number], op=MBConv(kernel_size=choice(3, 4)))
    with pytest.raises(SpaceError, match=f"option 4 .*kernel_size=4 in stage{number + 1}"):
        SearchSpace(replace(SPACE.template, stages=tuple(stages)))
