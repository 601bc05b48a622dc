from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import controllers

ROOT = Path(__file__).parents[2]


def loaded_after(code):
    program = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["RandomSearch", "Reinforce", "PPO"])
def test_a_search_with_independent_logits_loads_no_torch(name):
    loaded = loaded_after(
        f"import controllers; c = controllers.{name}([3, 2, 3], seed=0)\n"
        "for _ in range(6): c.feedback([(p, 0.5) for p in c.propose()])\nc.state_dict()"
    )
    assert "controllers" in loaded
    assert not {"torch", "ray", "nas", "search_spaces"} & loaded


def test_all_names_exist_and_nothing_else_is_public():
    assert sorted(controllers.__all__, key=str.lower) == sorted(set(controllers.__all__), key=str.lower)
    for name in controllers.__all__:
        value = getattr(controllers, name)
        is_ours = getattr(value, "__module__", "").startswith("controllers")
        assert is_ours or name in ("CONTROLLERS", "Candidate", "Feedback", "State")


def test_every_controller_has_a_name_that_users_give_and_the_default_is_the_first():
    classes = list(controllers.CONTROLLERS.values())
    assert classes[0] is controllers.Default
    assert {kind.__name__ for kind in classes} <= set(controllers.__all__)
