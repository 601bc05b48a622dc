import math

import pytest

from search_spaces import Head, SpaceError, adapt_strides, build, efficientnet, mnasnet, round_channels, small


def test_the_sizes_are_those_of_the_docstrings():
    assert efficientnet().size == 36**6 * 48 == 104_485_552_128
    assert mnasnet().size == 128 * 192 * 288**4 * 192 == 32_462_531_054_272_512
    assert small().size == 36**3 == 46_656
    for space in (efficientnet, mnasnet, small):
        assert f"{space().size:,}" in (space.__doc__ or "")


def test_mnasnet_offers_the_papers_options_around_mobilenet_v2():
    options = {decision.name: decision.options for decision in mnasnet().decisions}
    assert [len(options[f"block{n}.op"]) for n in range(1, 8)] == [4] * 7
    channels = [options[f"block{n}.channels"] for n in range(1, 8)]
    assert channels == [
        (16, 24),
        (24, 32),
        (24, 32, 40),
        (48, 64, 80),
        (72, 96, 120),
        (120, 160, 200),
        (240, 320, 400),
    ]
    repeats = [options[f"block{n}.repeats"] for n in range(1, 8)]
    assert repeats == [(1, 2), (2, 3, 1), (3, 4, 2), (4, 5, 3), (3, 4, 2), (3, 4, 2), (1, 2)]


def test_mnasnet_kernel_se_and_skip_are_one_decision_a_block_whatever_the_op():
    assert len(mnasnet().decisions) == 7 * 6
    assert all(decision.conditions == () for decision in mnasnet().decisions)


def test_b0_is_the_reference_and_a_point_of_its_space():
    space = efficientnet()
    b0 = space.decode(space.encode(space.reference))
    assert b0 == space.reference
    assert b0.head == Head(channels=1280, dropout=0.2)


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32 * 1.1, 32), (24 * 0.75, 24), (1280 * 1.1, 1408), (3, 8), (12, 16), (20, 24)]
)
def test_channels_round_to_eights_losing_at_most_a_tenth(channels, rounded):
    assert round_channels(channels) == rounded
    assert rounded >= 0.9 * channels


@pytest.mark.parametrize(
    ("resolution", "total"), [(224, 32), (128, 32), (96, 16), (64, 16), (32, 8), (28, 8), (16, 4), (4, 1)]
)
def test_early_strides_go_until_the_last_map_has_four_pixels(resolution, total):
    strides = adapt_strides((2, 1, 2, 2, 2, 1, 2, 1), resolution)
    assert math.prod(strides) == total
    assert math.ceil(resolution / total) >= 4
    assert strides[-4:] == (2, 1, 2, 1)[-4:] or total < 4


@pytest.mark.parametrize("make", [efficientnet, mnasnet])
def test_spaces_adapt_to_resolution_width_classes_and_channels(make):
    space = make(resolution=32, num_classes=7, in_channels=1, width=0.25)
    module = build(space.reference, seed=0).eval()
    convolution = module.get_submodule("stem.block0.conv")
    assert convolution.weight.shape[1] == 1
    assert convolution.stride == (1, 1)
    assert module.get_submodule("head.classifier").out_features == 7


@pytest.mark.parametrize("make", [efficientnet, mnasnet, small])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"width": float("nan")}, "width=nan"),
        ({"resolution": 0}, "resolution=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"in_channels": -1}, "in_channels=-1"),
    ],
)
def test_impossible_arguments_are_refused(make, arguments, message):
    with pytest.raises(SpaceError, match=message):
        make(**arguments)
