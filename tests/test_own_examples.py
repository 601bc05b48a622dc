"""The examples of a task of one's own and of a backbone, on few and small images."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.cli.main import main
from nas.study.study import open_study
from search_spaces import reference

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def grades(tmp_path_factory):
    """Squares of four sizes: the size is the grade."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    images = rng.integers(0, 60, (240, 16, 16), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[: 2 + 4 * label, : 2 + 4 * label] += 150
    path = tmp_path_factory.mktemp("grades") / "grades.npz"
    np.savez(path, train_images=images, train_labels=labels)
    return path


@pytest.fixture(scope="module")
def study(grades):
    given = ["search", "--data", grades, "--space", "small", "--evaluator", f"{EXAMPLES}/own_task.py:Grades"]
    given += ["--objective", "kappa - 0.1 * |macs/1M - 1|", "--epochs", "2", "--trials", "2"]
    given += ["--compare-seeds", "0", "--executor", "inline", "--out", grades.with_name("study")]
    assert main([str(word) for word in given]) == 0
    yield grades.with_name("study")
    sys.modules.pop("own_task", None)


def test_a_task_of_ones_own_is_searched_resumed_and_exported(study, capsys):
    assert main(["resume", str(study), "--trials", "3"]) == 0
    found = open_study(study)
    assert len(found.completed) == 3
    assert found.best.metric("kappa") == found.best.value
    assert found.best.metric("mean_distance") >= 0
    bundle = study / "export" / f"trial-{found.best.number}"
    assert json.loads((bundle / "preprocessing.json").read_text())["classes"] == ["0", "1", "2", "3"]
    capsys.readouterr()
    assert main(["resume", str(study), "--trials", "4", "--epochs", "3"]) == 2
    assert "--epochs" in capsys.readouterr().err


def test_the_loss_of_grades_grows_with_the_distance(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_task import earth_movers

    logits, losses = 20 * torch.eye(5)[[0]], []
    for grade in range(5):
        losses.append(earth_movers(logits, torch.tensor([grade])).item())
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses == sorted(losses)
    sys.modules.pop("own_task")


def test_a_searched_network_is_the_backbone_of_a_detector(study, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["detector.py", str(study)])
    runpy.run_path(str(EXAMPLES / "detector.py"), run_name="__main__")
    assert capsys.readouterr().out.count("loss_rpn_box_reg") == 5


def test_the_backbone_has_the_weights_and_the_gradient_of_the_network(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import detector

    backbone = detector.Backbone(reference("mnasnet_small"))
    assert [backbone.body.strides[name] for name in backbone.names] == [4, 8, 16, 32]
    model = detector.detector(backbone, 3).train()
    losses = model(*detector.drawn(2, 3, torch.Generator().manual_seed(0)))
    sum(losses.values()).backward()
    unused = {name for name, value in backbone.named_parameters() if value.grad is None}
    assert not unused
    sys.modules.pop("detector")
