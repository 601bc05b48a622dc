import json
from dataclasses import dataclass

import pytest

from search_spaces import (
    BasicBlock,
    Bottleneck,
    Context,
    Conv,
    ConvPool,
    FusedMBConv,
    Head,
    MBConv,
    Network,
    SpaceError,
    SqueezeExcite,
    Stage,
    build,
    choice,
    cost,
    efficientnet,
    lower,
)
from search_spaces.primitives import Chain, Convolution, Gate, Node, Residual

from .conftest import make_network


def test_json_round_trip_keeps_the_network():
    network = efficientnet().reference
    assert Network.from_json(network.to_json()) == network


def test_json_names_ops_by_module_and_class():
    data = json.loads(make_network(Stage(op=MBConv(), channels=8)).to_json())
    assert data["stages"][0]["op"]["op"] == "search_spaces.ops:MBConv"


def change(path, value):
    def apply(data):
        *way, last = path
        for step in way:
            data = data[step]
        if value is KeyError:
            del data[last]
        else:
            data[last] = value

    return apply


@pytest.mark.parametrize(
    ("mutate", "field"),
    [
        (change(["format"], "other/1"), "text"),
        (change(["colour"], 1), "network"),
        (change(["resolution"], KeyError), "network"),
        (change(["resolution"], -1), "resolution"),
        (change(["resolution"], 10**9), "resolution"),
        (change(["num_classes"], True), "num_classes"),
        (change(["drop_path_rate"], float("nan")), "drop_path_rate"),
        (change(["stages"], {}), "stages"),
        (change(["stages", 0, "stride"], "2"), "stride"),
        (change(["stages", 0, "op", "op"], "os:system"), "op_types"),
        (change(["stages", 0, "op", "kernel_size"], 4), "kernel_size"),
        (change(["stages", 0, "op", "warp"], 4), "stage1"),
        (change(["stages", 0, "op"], "MBConv"), "op"),
        (change(["head", "channels"], 10**9), "channels"),
        (change(["activation"], "tanh"), "activation"),
    ],
)
def test_json_that_is_not_valid_is_refused_by_field(mutate, field):
    data = json.loads(make_network(Stage(op=MBConv(), channels=8)).to_json())
    mutate(data)
    with pytest.raises(SpaceError) as error:
        Network.from_json(json.dumps(data))
    assert error.value.field == field


def test_text_that_is_no_json_is_refused():
    with pytest.raises(SpaceError) as error:
        Network.from_json("{")
    assert error.value.field == "text"


def test_a_users_op_is_read_only_when_its_class_is_given(shuffle_op):
    network = make_network(Stage(op=shuffle_op(groups=2), channels=16))
    assert Network.from_json(network.to_json(), [shuffle_op]) == network
    with pytest.raises(SpaceError, match="ShuffleOp' in stage1 is not known"):
        Network.from_json(network.to_json())


def test_a_template_has_no_layers():
    with pytest.raises(SpaceError, match="open choices"):
        lower(make_network(Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8)))


def test_an_empty_network_is_refused():
    with pytest.raises(SpaceError) as error:
        make_network()
    assert error.value.field == "stages"


def test_the_digest_changes_with_whatever_changes_the_layers():
    base = make_network(Stage(op=MBConv(), channels=8))
    others = [
        make_network(Stage(op=MBConv(kernel_size=5), channels=8)),
        make_network(Stage(op=MBConv(), channels=8, repeats=2)),
        make_network(Stage(op=MBConv(), channels=8), resolution=32),
        make_network(Stage(op=MBConv(), channels=8), in_channels=1),
        make_network(Stage(op=MBConv(), channels=8), num_classes=5),
        make_network(Stage(op=MBConv(), channels=8), activation="relu"),
        make_network(Stage(op=MBConv(), channels=8), head=Head(channels=32, dropout=0.5)),
        make_network(Stage(op=MBConv(), channels=8), padding="same"),
    ]
    digests = {network.digest for network in [base, *others]}
    assert len(digests) == len(others) + 1


def test_the_digest_ignores_what_changes_no_layer():
    strided = {"channels": 16, "stride": 2}
    kept, dropped = (make_network(Stage(op=MBConv(skip=skip), **strided)) for skip in ("identity", "none"))
    assert kept != dropped
    assert kept.digest == dropped.digest


def test_skips_stand_only_where_the_shape_is_kept():
    network = make_network(Stage(op=MBConv(), channels=16, repeats=3, stride=2))
    blocks = lower(network)[1].node
    assert isinstance(blocks, Chain)
    assert [isinstance(node, Residual) for _, node in blocks.layers] == [False, True, True]


def test_stochastic_depth_grows_linearly_from_zero():
    network = make_network(Stage(op=MBConv(), channels=8, repeats=4), drop_path_rate=0.2)
    blocks = lower(network)[1].node
    assert isinstance(blocks, Chain)
    rates = [node.drop_rate for _, node in blocks.layers if isinstance(node, Residual)]
    assert rates == pytest.approx([0.2 * block / 4 for block in range(4)])  # the stem is no block


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A user's op with a mistake: one layer, in or without a combinator."""

    around: str

    def layers(self, context: Context) -> Node:
        layer = Convolution(channels=context.in_channels + 8)
        return {"nothing": layer, "residual": Residual(layer), "gate": Gate(layer)}[self.around]


@pytest.mark.parametrize(
    ("around", "message"),
    [
        ("nothing", "block 0 must put out 8 channels, but puts out 16"),
        ("residual", "a residual body must keep .*channels=8.*but gives .*channels=16"),
        ("gate", "a gate must give 8 x 1 x 1, but gives .*channels=16"),
    ],
)
def test_a_users_op_whose_shapes_do_not_fit_is_refused_with_the_stage(around, message):
    with pytest.raises(SpaceError, match=f"{message}.*in stage1"):
        lower(make_network(Stage(op=Wrong(around=around), channels=8)))


def test_channels_that_groups_do_not_divide_are_refused_with_the_stage(shuffle_op):
    network = make_network(Stage(op=Conv(), channels=6), Stage(op=shuffle_op(groups=4), channels=8))
    with pytest.raises(SpaceError, match="groups=4 for 6 input and 8 output channels in stage2"):
        lower(network)


def test_a_resolution_too_small_for_the_strides_is_refused_with_the_stage():
    stages = [Stage(op=Conv(), channels=8, stride=2) for _ in range(3)]
    lower(make_network(*stages, resolution=16))
    with pytest.raises(
        SpaceError, match=r"stride=2 for an input of 1 x 1 pixels.*raise the resolution.*stage3"
    ):
        lower(make_network(*stages, resolution=8))


def test_sums_that_no_machine_can_hold_are_refused_by_counting():
    stage = Stage(op=Conv(kernel_size=31), channels=65_536, repeats=1000)
    network = make_network(stage, resolution=8192)
    with pytest.raises(SpaceError, match=r"must stay below 1e\+16.*use fewer channels.*stage1"):
        cost(network)


def test_a_module_that_does_not_fit_any_memory_is_refused_before_it_is_built():

    network = make_network(Stage(op=MBConv(expand_ratio=64), channels=65_536, repeats=4))
    with pytest.raises(SpaceError, match=r"parameters <= 1e\+10.*but got"):
        build(network)


@pytest.mark.parametrize(
    ("op", "field"),
    [
        (MBConv(expand_ratio=float("nan")), "expand_ratio"),
        (FusedMBConv(expand_ratio=0.5), "expand_ratio"),
        (FusedMBConv(kernel_size=2), "kernel_size"),
        (MBConv(se_ratio=float("nan")), "se_ratio"),
        (MBConv(activation="tanh"), "activation"),
        (MBConv(skip="pooling"), "skip"),
        (Bottleneck(reduction=0), "reduction"),
        (BasicBlock(se_ratio=-1), "se_ratio"),
        (ConvPool(pool_stride=3), "pool_stride"),
    ],
)
def test_an_op_whose_field_is_out_of_range_is_refused_with_field_and_stage(op, field):
    with pytest.raises(SpaceError, match="in stage1") as error:
        make_network(Stage(op=op, channels=8))
    assert error.value.field == field


def test_a_bottleneck_whose_reduction_does_not_divide_the_channels_is_refused():
    with pytest.raises(SpaceError) as error:
        lower(make_network(Stage(op=Bottleneck(), channels=10)))
    assert error.value.field == "reduction"


def test_the_form_of_squeeze_excite_is_checked():
    with pytest.raises(SpaceError, match="in squeeze_excite") as error:
        make_network(Stage(op=MBConv(), channels=8), squeeze_excite=SqueezeExcite(gate="relu"))
    assert error.value.field == "gate"
