import shlex

from nas.cli.main import parse
from nas.config.command_line import command_of
from nas.config.request import given_options, recipe_of
from nas.config.settings import Settings
from nas.training.recipe import Recipe


def stored(recipe=None, **settings):
    made = Settings(data="my photos", space="mnasnet", recipe=(recipe or Recipe()).to_json(), **settings)
    return made.to_dict()


def read_back(command):
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:2] == ["nas", "search"]
    return parse(words[1:])


def test_the_command_of_a_study_gives_its_settings_and_recipe(tmp_path):
    recipe = Recipe(epochs=7.5, warmup_epochs=0.5, batch_size=32, augmentation="none")
    settings = {"trials": 20, "target_macs": 30_000_000.0, "is_deterministic": True, "seed": 3, "workers": 2}
    settings |= {"rungs": (0.5, 1.0), "compare_seeds": 0}
    own = tmp_path / "own network.json"
    own.write_text("{}")
    settings["enqueue"] = ((str(own), "{}"),)
    arguments = read_back(command_of(stored(recipe, **settings), tmp_path / "it's"))
    given = given_options(arguments)
    assert {name: given[name] for name in settings} == settings
    assert (given["data"], given["space"]) == ("my photos", "mnasnet")
    assert recipe_of(arguments).to_json() == recipe.to_json()
    assert arguments.out == "it's-again"


def test_what_is_the_default_is_left_out_of_the_command(tmp_path):
    command = command_of(stored(), tmp_path / "a")
    assert [word for word in command.split() if word.startswith("--")] == ["--data", "--space", "--out"]


def test_a_search_from_python_has_no_command(tmp_path):
    assert command_of({"trials": 3}, tmp_path) == ""
    assert command_of({}, tmp_path) == ""
    assert command_of({**stored(), "recipe": "no recipe"}, tmp_path) == ""
