import pickle
import sys

import pytest

from nas.errors import SpaceArgumentError
from nas.spaces import BUILT_IN, VARIANTS, find_space
from search_spaces import SearchSpace, cost

SPACE_FILE = """
from dataclasses import dataclass

from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice
from search_spaces.primitives import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    kernel_size: int = 3

    def layers(self, context):
        unit = context.convolution(context.out_channels, self.kernel_size, stride=context.stride)
        return Chain((("only", unit),))


def space(resolution, num_classes, in_channels=3):
    stage = Stage(op=choice(Plain(kernel_size=choice(3, 5)), MBConv(expand_ratio=2)), channels=8, stride=2)
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=(stage,), head=Head(channels=8), resolution=resolution,
            num_classes=num_classes, in_channels=in_channels,
        ),
        name="own",
    )


ready = space(8, 4)


def broken(resolution):
    return resolution / 0


def number(resolution):
    return resolution
"""

IMAGES = {"resolution": 8, "num_classes": 4, "in_channels": 3}


@pytest.fixture
def space_file(tmp_path):
    path = tmp_path / "my_own_space.py"
    path.write_text(SPACE_FILE)
    yield path
    sys.modules.pop("my_own_space", None)


@pytest.mark.parametrize("name", [*BUILT_IN, *VARIANTS])
def test_a_built_in_space_is_made_for_the_images(name):
    space = find_space(name).make(resolution=28, num_classes=7, in_channels=1)
    assert isinstance(space, SearchSpace)
    assert (space.template.resolution, space.template.num_classes, space.template.in_channels) == (28, 7, 1)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_width_multiplies_the_channels(name):
    wide, narrow = (find_space(name).make(**{**IMAGES, "resolution": 32}, width=w) for w in (1.0, 0.5))
    wide_macs, narrow_macs = (cost(made.decode([0] * len(made.decisions))).macs for made in (wide, narrow))
    assert narrow_macs < wide_macs


@pytest.mark.parametrize(
    ("name", "space", "decisions"),
    [
        ("mnasnet_a1", "mnasnet_a1", 42),
        ("mnasnet_pool", "mnasnet_pool", 42),
        ("mnasnet_vertex", "mnasnet_vertex", 42),
        ("efficientnet_v2_width", "efficientnet_v2_s_width", 30),
        ("efficientnet_v2_m", "efficientnet_v2_m", 28),
        ("mobilenet_v3_small", "mobilenet_v3_small", 35),
        ("resnet18", "resnet18", 16),
        ("mnasnet_flat", "mnasnet_flat", 18),
        ("resnet_flat", "resnet50_flat", 10),
    ],
)
def test_a_variant_has_a_name_of_its_own(name, space, decisions):
    found = find_space(name).make(**{**IMAGES, "resolution": 32})
    assert (found.name, len(found.decisions)) == (space, decisions)


def test_a_misspelt_space_is_answered_with_the_one_that_was_meant():
    with pytest.raises(SpaceArgumentError, match=r"no space 'mnasnt', .*: did you mean mnasnet"):
        find_space("mnasnt")


@pytest.mark.parametrize("name", ["space", "ready"])
def test_a_space_of_the_users_own_comes_from_a_function_or_a_value(space_file, name):
    space = find_space(f"{space_file}:{name}").make(**IMAGES)
    assert space.name == "own"
    assert [op.__name__ for op in space.op_types] == ["Plain"]


def test_ops_of_the_users_own_file_can_be_pickled(space_file):
    source = find_space(f"{space_file}:space")
    space = source.make(**IMAGES)
    assert pickle.loads(pickle.dumps(space)).fingerprint == space.fingerprint
    assert [module.__name__ for module in source.modules] == ["my_own_space"]


def test_the_same_file_is_imported_once(space_file):
    first, second = (find_space(f"{space_file}:ready").space for _ in range(2))
    assert first is second


def test_a_name_the_file_lacks_is_answered_with_the_near_one(space_file):
    with pytest.raises(SpaceArgumentError, match=r"function 'spce', .*: did you mean space"):
        find_space(f"{space_file}:spce")


def test_a_file_without_a_name_is_answered_with_the_spaces_in_it(space_file):
    with pytest.raises(SpaceArgumentError, match=r"say which search space in it, .*: there are ready, space"):
        find_space(str(space_file))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SpaceArgumentError, match="there is no file"):
        find_space(f"{tmp_path}/nothing.py:space")


def test_a_file_that_hides_another_module_must_be_renamed(tmp_path):
    path = tmp_path / "json.py"
    path.write_text(SPACE_FILE)
    with pytest.raises(SpaceArgumentError, match="has the name of another module, 'json': rename"):
        find_space(f"{path}:space")


def test_an_error_in_the_users_file_is_said_with_its_line(tmp_path):
    path = tmp_path / "my_broken_space.py"
    path.write_text("a = 1\nb = a.nothing\n")
    with pytest.raises(SpaceArgumentError, match=r"AttributeError.*\(line 2\)"):
        find_space(f"{path}:space")
    assert "my_broken_space" not in sys.modules


def test_an_error_in_the_users_function_names_its_arguments(space_file):
    with pytest.raises(SpaceArgumentError, match=r"broken raised ZeroDivisionError.*resolution=8"):
        find_space(f"{space_file}:broken").make(**IMAGES)


def test_a_function_must_return_a_space(space_file):
    with pytest.raises(
        SpaceArgumentError, match=r"must return a search_spaces\.SearchSpace, but returned int"
    ):
        find_space(f"{space_file}:number").make(**IMAGES)


def test_a_ready_made_space_of_several_resolutions_takes_images_of_the_largest(space_file):
    space_file.write_text(SPACE_FILE.replace("space(8, 4)", "space(choice(6, 8), 4)"))
    source = find_space(f"{space_file}:ready")
    assert source.resolution == 8
    assert source.make(**IMAGES) is source.space
    with pytest.raises(SpaceArgumentError, match="read the images with resolution=8"):
        source.make(**{**IMAGES, "resolution": 6})


def test_a_ready_made_space_must_fit_the_images(space_file):
    source = find_space(f"{space_file}:ready")
    assert source.resolution == 8
    with pytest.raises(SpaceArgumentError, match="num_classes=4, but the images need num_classes=5"):
        source.make(resolution=8, num_classes=5, in_channels=3)


def test_a_width_needs_a_function_that_takes_it(space_file):
    with pytest.raises(SpaceArgumentError, match="takes no argument named width"):
        find_space(f"{space_file}:space").make(**IMAGES, width=0.5)
