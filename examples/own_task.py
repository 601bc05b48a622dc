"""Searches for a task of its own, in half a minute: grades, where a near miss is not far wrong.

    nas search --data mnist5k --space small --evaluator examples/own_task.py:Grades \
        --objective 'kappa - 0.1 * |macs/1M - 1|' --epochs 3 --trials 10 --out runs/grades

It is called with what it names of images, recipe, rungs and split. Digits stand for grades here.
"""

from dataclasses import replace

import torch
from safetensors.torch import save
from torch.nn.functional import one_hot
from torchmetrics.functional import cohen_kappa

import nas
from search_spaces import build, small


def earth_movers(logits, grades):
    """Squared distance of cumulated probabilities: each grade further off costs more (Hou et al., 2016)."""
    return (logits.softmax(1) - one_hot(grades, logits.shape[1])).cumsum(1).square().sum(1).mean()


class Grades:
    """Trains by the loss above and measures Cohen's kappa with quadratic weights, in [-1, 1]."""

    measures = (
        "kappa",
        "mean_distance",
    )  # an objective over another metric is refused before the first trial
    gives_weights = True  # of `build(candidate.network)`, so that networks can be exported

    def __init__(self, data, recipe, split="search"):
        self.data, self.recipe, self.split = data, recipe.settled(len(data.train)), split

    @property
    def fingerprint(self):
        """Changes with all that decides the numbers: a resume with another one is refused."""
        images = (self.data.fingerprint, self.data.split_fingerprint, self.split)
        return " ".join(("grades, version 1", self.recipe.fingerprint, *images))

    def prepare(self):
        """Runs once in each worker: normalises the images."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.data.mean, self.data.std))
        parts = {name: self.data.split(name) for name in ("train", self.split)}
        self.images = {name: (torch.from_numpy(p.images) / 255 - mean) / std for name, p in parts.items()}
        self.grades = {name: torch.from_numpy(p.labels) for name, p in parts.items()}

    def evaluate(self, candidate):
        """Trains one candidate; gives what was measured, and a function that gives its weights."""
        recipe, images, grades = self.recipe, self.images["train"], self.grades["train"]
        network = replace(candidate.network, norm_momentum=recipe.batch_norm_momentum)
        model = build(network, seed=candidate.job.seed)
        generator = torch.Generator().manual_seed(candidate.job.seed)
        optimizer = torch.optim.SGD(
            model.parameters(), momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
        for step in range(steps := recipe.steps(len(grades))):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(step, steps)
            batch = torch.randint(len(grades), (recipe.batch_size,), generator=generator)
            optimizer.zero_grad()
            earth_movers(model(images[batch]), grades[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            below = torch.cat([model(x) for x in self.images[self.split].split(256)]).softmax(1).cumsum(1)
        found, true = (below < 0.5).sum(1), self.grades[self.split]  # the median of the predicted grades
        kappa = cohen_kappa(found, true, "multiclass", num_classes=below.shape[1], weights="quadratic")
        distance = (found - true).abs().float().mean()
        metrics = (nas.Metric(name="kappa", value=kappa), nas.Metric(name="mean_distance", value=distance))
        return nas.Evaluation(metrics=metrics, weights=lambda: save(model.state_dict()))


if __name__ == "__main__":
    evaluator = Grades(nas.load_data("mnist5k"), nas.Recipe(epochs=2))
    space, goal = small(resolution=28, num_classes=10, in_channels=1), "kappa - 0.1 * |macs/1M - 1|"
    study = nas.search(space, evaluator=evaluator, objective=goal, trials=6, out="runs/grades-from-python")
    print(f"trial {study.best.number}: kappa {study.best.value:.3f} at {study.best.macs:,} macs")
