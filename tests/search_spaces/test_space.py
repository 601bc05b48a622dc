import itertools
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import (
    Conv,
    DepthwiseSeparable,
    Identity,
    MBConv,
    SearchSpace,
    SpaceError,
    Stage,
    choice,
    efficientnet,
    mnasnet,
)
from search_spaces.decisions import Decision, active_decisions, count_candidates
from search_spaces.testing import check_network, check_space

from .conftest import make_network


def nested_template():
    kernel = choice(3, 5)
    return make_network(
        Stage(
            op=choice(
                MBConv(kernel_size=kernel, expand_ratio=choice(3, 6), se_ratio=choice(0.0, 0.25, name="se")),
                Conv(kernel_size=kernel),
                Identity(),
            ),
            channels=choice(8, 16),
        ),
        Stage(op=MBConv(se_ratio=choice(0.0, 0.25, name="se")), channels=16, repeats=choice(1, 2, 3)),
    )


def test_decisions_are_in_reading_order_with_names_from_their_place():
    space = SearchSpace(nested_template())
    assert [decision.name for decision in space.decisions] == [
        "stages[0].op",
        "stages[0].op.MBConv.kernel_size",
        "stages[0].op.MBConv.expand_ratio",
        "se",
        "stages[0].channels",
        "stages[1].repeats",
    ]
    assert space.cardinalities == (3, 2, 2, 2, 2, 3)


def test_a_nested_choice_exists_only_where_its_option_is_chosen():
    space = SearchSpace(nested_template())
    assert space.decisions[1].conditions == ((0, (0, 1)),)  # one choice object in two options: tied
    assert space.decisions[2].conditions == ((0, (0,)),)
    assert space.decisions[3].conditions == ()  # named, and used outside the option too: always there
    assert space.active((2, 0, 0, 1, 0, 0)) == (True, False, False, True, True, True)
    assert space.canonical((2, 1, 1, 1, 0, 0)) == (2, 0, 0, 1, 0, 0)


def test_size_counts_canonical_candidates_exactly():
    space = SearchSpace(nested_template())
    every = itertools.product(*(range(count) for count in space.cardinalities))
    assert space.size == len({space.canonical(tokens) for tokens in every}) == (2 * 2 + 2 + 1) * 2 * 2 * 3


@st.composite
def decision_graphs(draw):
    decisions = []
    for index in range(draw(st.integers(1, 6))):
        options = tuple(range(draw(st.integers(2, 3))))
        parents = draw(st.lists(st.integers(0, index - 1), unique=True, max_size=2)) if index else []
        conditions = tuple(
            (
                parent,
                tuple(sorted(draw(st.sets(st.sampled_from(decisions[parent].options), min_size=1)))),
            )
            for parent in sorted(parents)
        )
        decisions.append(Decision(name=str(index), options=options, conditions=conditions))
    return decisions


@given(decision_graphs())
def test_size_equals_the_count_by_enumeration_for_any_conditions(decisions):
    conditions = [decision.conditions for decision in decisions]
    canonical = set()
    for tokens in itertools.product(*(decision.options for decision in decisions)):
        active = active_decisions(conditions, tokens)
        canonical.add(tuple(token if here else 0 for token, here in zip(tokens, active, strict=True)))
    assert count_candidates(decisions) == len(canonical)


def test_a_decision_comes_after_every_parent_even_one_read_later():
    shared = choice(3, 5)
    template = make_network(
        Stage(op=choice(MBConv(kernel_size=shared), Identity()), channels=8),
        Stage(op=choice(Conv(kernel_size=shared), Identity()), channels=8),
    )
    space = SearchSpace(template)
    names = [decision.name for decision in space.decisions]
    assert names == ["stages[0].op", "stages[1].op", "stages[0].op.MBConv.kernel_size"]
    assert space.decisions[2].conditions == ((0, (0,)), (1, (0,)))
    assert space.size == 3 * 2 + 1


def test_a_choice_shared_by_every_option_of_its_parent_is_always_there():
    kernel = choice(3, 5)
    stage = Stage(op=choice(MBConv(kernel_size=kernel), Conv(kernel_size=kernel)), channels=8)
    space = SearchSpace(make_network(stage))
    assert space.decisions[1].conditions == ()
    assert space.size == 4


def test_a_choice_under_every_option_of_a_conditional_parent_stays_conditional():
    kernel = choice(3, 5)
    inner = choice(MBConv(kernel_size=kernel), Conv(kernel_size=kernel))
    space = SearchSpace(make_network(Stage(op=choice(inner, Identity()), channels=8)))
    assert [decision.conditions for decision in space.decisions] == [(), ((0, (0,)),), ((1, (0, 1)),)]
    assert space.size == 2 * 2 + 1


def test_one_named_choice_used_twice_is_one_tied_decision():
    stages = [Stage(op=MBConv(kernel_size=choice(3, 5, name="k")), channels=8) for _ in range(2)]
    space = SearchSpace(make_network(*stages))
    assert space.size == 2
    assert [stage.op.kernel_size for stage in space.decode((1,)).stages] == [5, 5]


def test_one_name_for_different_options_is_refused():
    stages = [Stage(op=MBConv(kernel_size=choice(3, k, name="k")), channels=8) for k in (5, 7)]
    with pytest.raises(SpaceError, match="one name must mean one decision, but 'k'"):
        SearchSpace(make_network(*stages))


def test_a_template_without_choices_is_refused():
    with pytest.raises(SpaceError) as error:
        SearchSpace(make_network(Stage(op=Conv(), channels=8)))
    assert error.value.field == "template"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage(op=MBConv(kernel_size=choice(3, 4)), channels=8), "option 4 .*odd.*kernel_size=4 in stage1"),
        (
            Stage(op=Conv(), channels=8, stride=choice(1, 3)),
            r"option 3 .*stride in \(1, 2\).*stride=3 in stage1",
        ),
        (Stage(op=Conv(), channels=choice(8, 0)), "option 0 .*channels=0 in stage1"),
        (Stage(op=Conv(), channels=8, repeats=choice(1, -1)), "option -1 .*repeats=-1 in stage1"),
        (Stage(op=choice(Conv(), "conv"), channels=8), "option 'conv' .*frozen dataclass.* in stage1"),
    ],
)
def test_an_option_that_breaks_a_law_is_found_when_the_space_is_made(stage, message):
    with pytest.raises(SpaceError, match=message):
        SearchSpace(make_network(stage))


def test_a_reference_outside_the_space_is_refused_and_the_difference_named():
    reference = make_network(Stage(op=MBConv(kernel_size=7), channels=8))
    with pytest.raises(
        SpaceError, match=r"network\.stages\[0\]\.op\.kernel_size must be choice\(3, 5\), but is 7"
    ):
        SearchSpace(make_network(Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8)), reference=reference)


def test_encode_respects_ties():
    kernel = choice(3, 5)
    template = make_network(
        Stage(op=MBConv(kernel_size=kernel), channels=8), Stage(op=MBConv(kernel_size=kernel), channels=8)
    )
    space = SearchSpace(template)
    assert space.encode(space.decode((1,))) == (1,)
    mixed = make_network(
        Stage(op=MBConv(kernel_size=3), channels=8), Stage(op=MBConv(kernel_size=5), channels=8)
    )
    with pytest.raises(SpaceError, match=r"stages\[1\].op.kernel_size"):
        space.encode(mixed)


def test_tokens_that_mean_the_same_layers_are_one_candidate():
    template = make_network(
        Stage(op=choice(MBConv(expand_ratio=1), DepthwiseSeparable(), MBConv(expand_ratio=3)), channels=8)
    )
    space = SearchSpace(template)
    assert space.digest((0,)) == space.digest((1,)) != space.digest((2,))


@pytest.mark.parametrize("tokens", [(0,), (3, 0, 0, 0, 0, 0), (-1, 0, 0, 0, 0, 0)])
def test_tokens_of_another_space_are_refused(tokens):
    with pytest.raises(SpaceError) as error:
        SearchSpace(nested_template()).decode(tokens)
    assert error.value.field == "tokens"


def test_samples_reach_every_option():
    space = SearchSpace(nested_template())
    rng = np.random.default_rng(0)
    seen = {space.sample(rng) for _ in range(2000)}
    assert len(seen) == space.size


def test_a_users_own_op_and_leaf_work_in_every_fold(shuffle_op):
    space = SearchSpace(make_network(Stage(op=shuffle_op(groups=choice(2, 4)), channels=16)))
    assert space.op_types == (shuffle_op,)
    check_space(space, samples=4)


def test_a_users_own_law_is_checked(shuffle_op):
    with pytest.raises(SpaceError, match="groups in"):
        SearchSpace(make_network(Stage(op=shuffle_op(groups=choice(2, 3)), channels=16)))


def test_the_fingerprint_tells_spaces_apart_and_is_the_same_in_every_process():
    assert efficientnet().fingerprint != efficientnet(resolution=192).fingerprint
    assert efficientnet().fingerprint != mnasnet().fingerprint
    code = "from search_spaces import efficientnet as e; s = e(); print(s.fingerprint, s.digest([0] * 28))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    space = efficientnet()
    assert printed.split() == [space.fingerprint, space.digest([0] * 28)]


def test_ties_survive_pickling():
    space = pickle.loads(pickle.dumps(SearchSpace(nested_template())))
    assert space.size == SearchSpace(nested_template()).size


@pytest.mark.parametrize(
    "space",
    [
        mnasnet(resolution=32, num_classes=10, width=0.5),
        efficientnet(resolution=28, num_classes=10, in_channels=1, width=0.5),
        SearchSpace(nested_template()),
    ],
    ids=lambda space: space.name,
)
def test_the_contract_of_spaces_holds(space):
    check_space(space)
    if space.reference is not None:
        check_network(space.reference)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_encode_inverts_decode_on_random_candidates(seed):
    space = mnasnet(resolution=32)
    network = space.decode(space.sample(np.random.default_rng(seed)))
    assert space.decode(space.encode(network)) == network


def test_importing_and_costing_load_no_torch():
    code = (
        "import sys, search_spaces as s\n"
        "space = s.efficientnet()\n"
        "s.cost(space.reference), s.describe(space.reference), space.reference.digest\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        ({"repeats": choice(-1, 1)}, "repeats", "option -1"),
        ({"repeats": choice(1, "a")}, "repeats", "option 'a'"),
        ({"channels": choice(-8, 8)}, "channels", "option -8"),
        ({"stride": choice(1, 5)}, "stride", "option 5"),
    ],
)
def test_a_wrong_option_is_named_with_its_own_decision(options, name, words):
    stage = Stage(op=MBConv(kernel_size=choice(3, 5)), **{"channels": 8, **options})
    with pytest.raises(SpaceError, match=rf"^{words} of decision stages\[0\]\.{name}: "):
        SearchSpace(make_network(stage))


def test_a_network_that_no_option_mends_is_refused_at_the_first_decision():
    stage = Stage(op=MBConv(kernel_size=choice(3, 5)), channels=-8)
    with pytest.raises(
        SpaceError, match=r"^option 3 of decision stages\[0\]\.op\.kernel_size: .*channels=-8"
    ):
        SearchSpace(make_network(stage))


@dataclass(frozen=True)
class Unfinished:
    """An op whose author forgot to return its layers."""

    node: object = None

    def layers(self, _context):
        return self.node


@pytest.mark.parametrize(
    ("node", "words"), [(None, "returned None: end it with `return`"), (3, "returned 3")]
)
def test_an_op_that_returns_no_layers_is_refused_by_name(node, words):
    stage = Stage(op=choice(Conv(), Unfinished(node)), channels=8)
    with pytest.raises(
        SpaceError, match=rf"`layers\(context\)` of Unfinished must return.*{words}.* in stage1"
    ):
        SearchSpace(make_network(stage))
