import json
import re
import sys

import numpy as np
import pytest

from nas.cli.main import main
from nas.config.prepared import prepare
from nas.config.settings import Settings
from nas.errors import ContractError, UsageError
from nas.study.study import open_study
from nas.training.recipe import Recipe

OWN = """
import sys

from safetensors.torch import save

import nas
from controllers import Proposal
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, build, choice


def space(resolution, num_classes, in_channels):
    stage = Stage(op=MBConv(expand_ratio=choice(1, 2, 3)), channels=choice(8, 16), stride=2)
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=(stage,), head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="tiny",
    )


class Quality:
    measures = ("quality",)
    gives_weights = True

    def __init__(self, data, split="search"):
        self.data, self.split = data, split

    @property
    def fingerprint(self):
        return f"quality {VERSION} {self.split} {self.data.fingerprint}"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        module = build(candidate.network, seed=candidate.job.seed)
        value = SCALE * (1 + sum(candidate.job.tokens)) / 10
        metrics = (nas.Metric(name="quality", value=value),)
        return nas.Evaluation(metrics=metrics, weights=lambda: save(module.state_dict()))


class OtherNetwork(Quality):
    def evaluate(self, candidate):
        return nas.Evaluation(metrics=super().evaluate(candidate).metrics, weights=lambda: save({}))


class WithoutSplit(Quality):
    gives_weights = False

    def __init__(self, data):
        super().__init__(data)

    def evaluate(self, candidate):
        return nas.Evaluation(metrics=super().evaluate(candidate).metrics)


ready = nas.TableEvaluator(lambda candidate: {"quality": 0.5})


def by_recipe(data, recipe, rungs):
    assert recipe.epochs == 3
    return Quality(data)


def needs_more(data, levels):
    return Quality(data)


def broken(data):
    return data.nothing


def number():
    return 3


class Walk:
    def __init__(self, cardinalities, seed):
        self.cardinalities, self.place = tuple(cardinalities), seed

    def propose(self, n=1):
        self.place += 1
        left, tokens = self.place, []
        for count in self.cardinalities:
            tokens.append(left % count)
            left //= count
        return [Proposal(tuple(tokens))]

    def feedback(self, results):
        pass

    def recommend(self, n=1):
        return []

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


class Stops(Walk):
    def propose(self, n=1):
        return super().propose(n) if self.place < 2 else []


class Unable:
    def propose(self, n=1):
        return []


def by_problem(problem, seed):
    from controllers import RandomSearch

    assert problem.reward is not None
    return RandomSearch(problem, seed=seed)
"""


def own_file(folder, *, version=1, scale=1):
    folder.mkdir(exist_ok=True)
    path = folder / "my_own_parts.py"
    path.write_text(f"VERSION, SCALE = {version}, {scale}\n{OWN}")
    return path


@pytest.fixture
def file(tmp_path):
    yield own_file(tmp_path)
    forget()


def forget():
    sys.modules.pop("my_own_parts", None)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "images.npz"
    arrays = {"train_images": rng.integers(0, 255, (60, 8, 8, 3), dtype=np.uint8)}
    arrays["train_labels"] = np.arange(60) % 3
    np.savez(path, **arrays)
    return path


def words(file, images, tmp_path, evaluator="Quality", *more):
    given = ["search", "--data", str(images), "--space", f"{file}:space", "--trials", "3"]
    given += ["--evaluator", f"{file}:{evaluator}", "--objective", "max quality", "--executor", "inline"]
    return [*given, "--compare-seeds", "0", "--out", str(tmp_path / "a"), *more]


def settings(file, images, **given):
    known = {"data": str(images), "space": f"{file}:space", "recipe": Recipe().to_json()}
    return Settings(**{**known, "objective": "max quality", **given})


@pytest.mark.slow
def test_a_search_by_an_evaluator_from_a_file_is_resumed_shown_and_exported(file, images, tmp_path, capsys):
    assert main(words(file, images, tmp_path)) == 0
    printed = capsys.readouterr().out
    assert re.search(r"trial 0 +reward 0\.\d{4}  quality 0\.\d", printed)
    assert "predict.py" in printed
    assert "accuracy" not in printed
    forget()  # a resume is another process
    assert main(["resume", str(tmp_path / "a"), "--trials", "5"]) == 0
    study = open_study(tmp_path / "a")
    assert len(study.completed) == 5
    assert study.best.value == max(trial.value for trial in study.completed)
    capsys.readouterr()
    assert main(["show", str(tmp_path / "a"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["winner_metric"] == "quality"
    assert shown["winner_quality"] == pytest.approx(study.best.value)
    assert "winner_accuracies" not in shown
    assert shown["evaluator"] == f"{file}:Quality"
    assert main(["show", str(tmp_path / "a")]) == 0
    assert "accuracy" not in capsys.readouterr().out
    assert main(["export", str(tmp_path / "a"), "--to", str(tmp_path / "bundle")]) == 0
    assert (tmp_path / "bundle" / "predict.py").is_file()


@pytest.mark.slow
def test_a_moved_file_is_named_again_and_a_changed_evaluator_is_another_study(file, images, tmp_path, capsys):
    assert main(words(file, images, tmp_path)) == 0
    forget()
    file.unlink()
    assert main(["resume", str(tmp_path / "a")]) == 2
    assert "--space NEW.py:name" in capsys.readouterr().err
    moved = own_file(tmp_path / "there")
    again = ["resume", str(tmp_path / "a"), "--space", f"{moved}:space", "--evaluator", f"{moved}:Quality"]
    assert main([*again, "--trials", "4"]) == 0
    forget()
    own_file(tmp_path / "there", version=2)
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "a"), "--trials", "5"]) == 2
    assert "evaluator is 'quality 1" in capsys.readouterr().err
    forget()
    assert main([*again[:-1], f"{moved}:OtherNetwork"]) == 2
    assert "--evaluator is" in capsys.readouterr().err


def test_the_evaluator_gets_what_it_names(file, images):
    recipe = Recipe(epochs=3).to_json()
    made = prepare(settings(file, images, evaluator=f"{file}:by_recipe", recipe=recipe, rungs=(1.0, 3.0)))
    assert made.search.evaluator.data is made.data
    assert made.test_evaluator() is None
    made = prepare(settings(file, images, evaluator=f"{file}:Quality"))
    assert (made.search.evaluator.split, made.test_evaluator().split) == ("search", "test")
    assert [module.__name__ for module in made.modules] == ["my_own_parts", "my_own_parts"]
    assert prepare(settings(file, images, evaluator=f"{file}:ready")).search.evaluator.fingerprint


@pytest.mark.parametrize(
    ("evaluator", "error", "message"),
    [
        ("", ContractError, "is a file: say which evaluator in it, .*there are .*Quality"),
        ("Qualty", ContractError, "has no evaluator or function 'Qualty'.*did you mean Quality"),
        ("needs_more", ContractError, "needs levels, but it is called with .* data, recipe, rungs, split"),
        ("needs_more", ContractError, r"give it a default, or give a function .*as nas.TableEvaluator\(f"),
        ("broken", ContractError, r"broken raised AttributeError.*\(line \d+\) \(called with data\)"),
    ],
)
def test_an_evaluator_that_cannot_be_made_is_refused(file, images, evaluator, error, message):
    with pytest.raises(error, match=message) as found:
        prepare(settings(file, images, evaluator=f"{file}:{evaluator}"))
    assert found.value.field == "evaluator"


ENDS = """
import sys


def maker(data):
    sys.exit()


class Exits:
    measures = ("quality",)

    def __init__(self, data):
        pass

    def prepare(self):
        pass

    def evaluate(self, candidate):
        raise NotImplementedError

    @property
    def fingerprint(self):
        raise SystemExit("no fingerprint")
"""


@pytest.mark.parametrize(
    ("what", "code", "name", "said"),
    [
        ("evaluator", "import sys; sys.exit()", "any", r"cannot be imported: SystemExit \(line 1\)"),
        ("controller", "raise SystemExit('a script')", "any", r"imported: SystemExit: a script \(line 1\)"),
        ("space", "raise SystemExit(3)", "any", r"cannot be imported: SystemExit: 3 \(line 1\)"),
        ("evaluator", ENDS, "maker", r"maker raised SystemExit \(line 6\) \(called with data\)"),
        ("evaluator", ENDS, "Exits", r"fingerprint, which raises SystemExit: no fingerprint \(line 23\)"),
    ],
)
def test_a_file_that_ends_the_process_is_refused_and_ends_nothing(
    file, images, tmp_path, capsys, what, code, name, said
):
    path = tmp_path / "my_ending_parts.py"
    path.write_text(code)
    try:
        assert main(words(file, images, tmp_path, "Quality", f"--{what}", f"{path}:{name}")) == 2
    finally:
        sys.modules.pop("my_ending_parts", None)
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "a").exists()


def test_a_file_imports_its_neighbours_when_it_is_read_and_later(images, tmp_path):
    (tmp_path / "near_numbers.py").write_text("SCALE = 2\n")
    (tmp_path / "near_later.py").write_text("OFFSET = 0\n")
    file = own_file(tmp_path)
    text = file.read_text().replace("VERSION, SCALE = 1, 1", "from near_numbers import SCALE; VERSION = 1")
    later = "        import near_later\n        module = build("
    file.write_text(text.replace("        module = build(", later))
    try:
        assert main(words(file, images, tmp_path)) == 0
        assert open_study(tmp_path / "a").completed[0].value >= 0.2
    finally:
        forget()
        for name in ("near_numbers", "near_later"):
            sys.modules.pop(name, None)


def test_a_module_that_a_file_imports_is_no_evaluator_of_it(file, images):
    with pytest.raises(ContractError, match=r"has no evaluator or function 'nas', .*there are Quality"):
        prepare(settings(file, images, evaluator=f"{file}:nas"))


def test_what_is_no_evaluator_is_refused_with_what_it_lacks_before_the_first_trial(
    file, images, tmp_path, capsys
):
    assert main(words(file, images, tmp_path, "number")) == 2
    said = capsys.readouterr().err
    assert all(f"`{name}" in said for name in ("fingerprint", "prepare", "evaluate"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"recipe": Recipe(epochs=7).to_json()}, "epochs"),
        ({"rungs": (1.0, 5.0)}, "rungs"),
        ({"is_compiled": True}, "is_compiled"),
        ({"proxy_check": "somewhere"}, "proxy_check"),
        ({"init": "efficientnet_lite0"}, "init"),
    ],
)
def test_an_option_of_the_training_that_the_evaluator_does_not_take_is_refused(file, images, given, field):
    with pytest.raises(UsageError) as found:
        prepare(settings(file, images, evaluator=f"{file}:Quality", **given))
    assert found.value.field == field
    can_be_taken = field in ("epochs", "rungs")
    assert ("or take the argument" in str(found.value)) == can_be_taken


def test_a_metric_that_the_evaluator_does_not_name_is_refused_before_the_first_trial(
    file, images, tmp_path, capsys
):
    assert main(words(file, images, tmp_path, "Quality", "--objective", "accuracy")) == 2
    assert "needs accuracy, but the evaluator measures quality" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "goal",
    [
        ("--metric", "quality", "--target-macs", "1M"),
        ("--metric", "quality"),
        ("--objective", "min macs, quality >= 0.1"),
    ],
)
@pytest.mark.slow
def test_any_metric_of_the_evaluator_is_searched_for_and_compared_on_the_test_split(
    file, images, tmp_path, goal
):
    given = [word for word in words(file, images, tmp_path) if word not in ("--objective", "max quality")]
    assert main([*given, *goal, "--compare-seeds", "1", "--compare-random", "1"]) == 0
    comparison = json.loads((tmp_path / "a" / "comparison.json").read_text())
    assert comparison["metric"] == "quality"
    assert all(run["value"] > 0 for one in comparison["contenders"] for run in one["runs"])


def test_what_keeps_networks_from_being_exported_is_said_at_once_and_at_the_end(
    file, images, tmp_path, capsys
):
    assert main(words(file, images, tmp_path, "WithoutSplit", "--compare-seeds", "1")) == 0
    printed = capsys.readouterr().out
    header, end = printed.split("[1/3]")
    assert "no network can be exported, as the evaluator gives no weights" in header
    assert "no comparison on the test split" in end
    assert "none: the evaluator gives no weights" in end


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("save({})", "they are not those of build(candidate.network): stem"),
        ("b'junk'", "they are no safetensors bytes"),
        ("{}", "`weights` must give safetensors bytes, but gave {}"),
        ("sys.exit()", "SystemExit"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_weights_that_cannot_be_exported_are_named_in_the_first_trial_and_at_the_end(
    images, tmp_path, capsys, weights, said
):
    file = own_file(tmp_path)
    file.write_text(file.read_text().replace("weights=lambda: save({})", f"weights=lambda: {weights}"))
    try:
        assert main(words(file, images, tmp_path, "OtherNetwork")) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "no network can be exported with the evaluator's weights" in printed.split("[2/3]")[0]
        end = printed.split(" Saved ")[1]
        assert "bundle none: the weights of trial" in end
        assert said in end
        assert said in printed.split("[2/3]")[0]
        assert len(open_study(tmp_path / "a").completed) == 3
        assert main(["resume", str(tmp_path / "a"), "--trials", "4"]) == 0
    finally:
        forget()


def test_a_number_that_the_objective_cannot_use_is_said_in_the_line_of_the_first_trial(
    tmp_path, images, capsys
):
    file = own_file(tmp_path, scale=100)
    try:
        assert main(words(file, images, tmp_path, "Quality", "--objective", "quality * (macs/2M)^-0.07")) == 2
    finally:
        forget()
    first = next(line for line in capsys.readouterr().out.splitlines() if "trial 0" in line)
    assert "divide percent by 100, or use absolute terms" in first


@pytest.mark.parametrize("controller", ["Walk", "by_problem"])
@pytest.mark.slow
def test_a_controller_from_a_file_searches_and_resumes(file, images, tmp_path, controller):
    assert main(words(file, images, tmp_path, "Quality", "--controller", f"{file}:{controller}")) == 0
    forget()
    assert main(["resume", str(tmp_path / "a"), "--trials", "6"]) == 0
    study = open_study(tmp_path / "a")
    assert len({trial.tokens for trial in study.completed}) == 6
    assert study.identity.controller in ("Walk", "RandomSearch")


def test_a_controller_that_stops_proposing_is_said_to_and_the_space_is_not_said_to_be_tried(
    file, images, tmp_path, capsys
):
    assert main(words(file, images, tmp_path, "Quality", "--controller", f"{file}:Stops")) == 0
    assert "the controller proposed nothing more after" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "a")]) == 0
    assert "the controller proposed nothing more" in capsys.readouterr().out


def test_what_a_controller_lacks_is_said_before_the_first_trial(file, images, tmp_path, capsys):
    assert main(words(file, images, tmp_path, "Quality", "--controller", f"{file}:Unable")) == 2
    said = capsys.readouterr().err
    assert all(f"`{name}(" in said for name in ("feedback", "recommend", "state_dict", "load_state_dict"))
    assert not (tmp_path / "a").exists()
    assert main(words(file, images, tmp_path, "Quality", "--controller", "dynna")) == 2
    assert "did you mean dyna" in capsys.readouterr().err
