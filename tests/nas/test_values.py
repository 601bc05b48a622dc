"""What arguments may be."""

from dataclasses import MISSING, fields

import numpy as np
import pytest

import nas
from nas.training.reduction import Reduction
from nas.values import counted

TAKING_NUMBERS = (
    nas.DeviceSettings,
    nas.ExecutorOptions,
    nas.FullRecipe,
    nas.LatencyProbe,
    nas.Recipe,
    nas.ScalingPlan,
    nas.TrainOptions,
    Reduction,
)


@pytest.mark.parametrize("kind", TAKING_NUMBERS)
def test_numbers_of_numpy_are_those_of_python(kind):
    usual = {one.name: one.default for one in fields(kind) if one.init and one.default is not MISSING}
    usual = {name: value for name, value in usual.items() if isinstance(value, int | float)}
    made = kind(**{name: np.asarray(value)[()] for name, value in usual.items()})
    given = {name: getattr(made, name) for name in usual}
    assert given == usual
    assert [type(value) for value in given.values()] == [type(value) for value in usual.values()]


def test_epochs_of_numpy_shorten_the_warm_up_of_a_recipe_as_those_of_python_do():
    recipe = nas.FullRecipe()
    assert recipe.changed(epochs=np.int64(2)) == recipe.changed(epochs=2)
    assert recipe.changed(epochs=np.float32(0.5)).fingerprint == recipe.changed(epochs=0.5).fingerprint


def test_one_thing_is_no_plural():
    said = [counted(number, noun) for number, noun in ((1, "trial"), (2_000, "image"), (0.5, "epoch"))]
    assert said == ["1 trial", "2,000 images", "0.5 epochs"]
    assert [counted(1.0, "epoch"), counted(0, "class")] == ["1 epoch", "0 classes"]
