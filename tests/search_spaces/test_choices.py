import numpy as np
import pytest

from search_spaces import MBConv, SpaceError, choice
from search_spaces.choices import Choice, has_choice, substitute


def test_equal_options_are_merged_and_a_single_one_is_no_choice():
    assert choice(16, 16, 24).options == (16, 24)
    assert choice(16, 16) == 16


def test_options_that_are_equal_but_of_different_types_stay_apart():
    assert choice(1, True).options == (1, True)
    assert choice(0, 0.0).options == (0, 0.0)


def test_options_of_numpy_are_those_of_python():
    assert [type(one) for one in choice(*np.array([3, 5]), np.float32(0.5)).options] == [int, int, float]


def test_a_choice_of_nothing_is_refused():
    with pytest.raises(SpaceError) as error:
        choice()
    assert error.value.field == "options"


@pytest.mark.parametrize(
    "use",
    [
        lambda c: bool(c),
        lambda c: c + 1,
        lambda c: 2 * c,
        lambda c: c // 8,
        lambda c: -c,
        lambda c: c < 3,
        lambda c: c >= 3,
        lambda c: int(c),
        lambda c: range(c),
    ],
)
def test_a_choice_refuses_order_arithmetic_and_truth(use):
    with pytest.raises(TypeError, match="has no value yet"):
        use(choice(3, 5))


def test_choices_are_one_decision_when_the_same_object_or_of_the_same_name():
    one = choice(3, 5)
    assert one == one
    assert one != choice(3, 5)
    assert choice(3, 5, name="k") == choice(3, 5, name="k")
    assert choice(3, 5, name="k") != choice(3, 7, name="k")


def test_substitute_replaces_choices_at_every_depth_and_keeps_the_rest():
    inner = choice(3, 5)
    template = (MBConv(kernel_size=inner), choice(MBConv(expand_ratio=choice(3, 6)), "none"), MBConv())
    closed = substitute(template, lambda c: c.options[0])
    assert closed == (MBConv(kernel_size=3), MBConv(expand_ratio=3), MBConv())
    assert closed[2] is template[2]
    assert has_choice(template)
    assert not has_choice(closed)
    assert isinstance(inner, Choice)
