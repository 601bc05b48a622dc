"""One trial of a study: its numbers, its network, its trained module, its export."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.errors import StudyError
from nas.metrics import SHARED_WEIGHTS
from nas.objective import Objective
from nas.outcome import all_costs
from nas.reading import read_bytes
from nas.study.identity import Provenance
from nas.study.journal_reading import read_network
from nas.study.trial_logs import log_name
from nas.study.trial_table import TrialTable
from nas.task_objective import judged_by
from nas.trial import Cause, Metric, Status
from search_spaces import Cost, Network, Op

if TYPE_CHECKING:
    from torch import nn

    from nas.export.bundle import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTrial:
    """One trial of a study.

    Attributes:
        folder: The study's folder.
        number: Counted from 0.
        status: What became of it.
        tokens: One option index per decision.
        digest: Identity of its network.
        cost: Exact cost of its network.
        reward: The objective's value; None unless completed.
        metrics: Everything measured.
        cause: Why it did not complete.
        message: The same in one line.
        origin: `controller`, or `user` for an enqueued candidate.
        seed: Seed of its training.
        fidelity: Share of the recipe's schedule.
        replicate: 0, or counts the replicates asked for.
        attempts: How often it was begun.
        seconds: Wall time in workers, all attempts together.
        copied_from: The trial with an equal candidate whose result this is.
        continues: The trial whose training it went on with.
        weights_file: Its weights, where they are kept.
        proposed_at: When it was proposed, ISO 8601 in UTC.
        finished_at: When it finished.
        values: `quality` of all completed trainings of its network at its fidelity, in order of trials; empty
            where its own is the only one.
        provenance: Where its study comes from.
        objective: What its study searched for.
        op_types: The user's own ops, which its network may hold.
        known_network: Its network as JSON text; None where it is read from the journal when asked for.
    """

    folder: Path
    number: int
    status: Status
    tokens: tuple[int, ...]
    digest: str
    cost: Cost
    reward: float | None
    metrics: tuple[Metric, ...]
    cause: Cause | None
    message: str
    origin: str
    seed: int
    fidelity: float
    replicate: int
    attempts: int
    seconds: float
    copied_from: int | None
    continues: int | None
    weights_file: Path | None
    proposed_at: str
    finished_at: str | None
    values: tuple[float, ...] = ()
    provenance: Provenance = field(repr=False)
    objective: Objective = field(repr=False)
    op_types: tuple[type[Op], ...] = field(default=(), repr=False)
    known_network: str | None = field(default=None, repr=False)

    @property
    def is_final(self) -> bool:
        """Whether it trained again what may be the best, which the search chose by itself."""
        return self.replicate > 0 and self.origin == "controller"

    @property
    def accuracy(self) -> float | None:
        """Fraction of the search split's images classified correctly; None unless measured."""
        return self.metric("accuracy")

    @property
    def value(self) -> float | None:
        """What the objective maximises or minimises, the accuracy by default; None unless measured."""
        return self.costs.get(self.objective.goal.metric)

    @property
    def quality_metric(self) -> str:
        """What says how good it is: the objective's goal, or the accuracy where that is a cost."""
        return judged_by(self.objective).metric

    @property
    def quality(self) -> float | None:
        """The value of `quality_metric`; None unless measured."""
        return self.metric(self.quality_metric)

    @property
    def measured_on(self) -> str:
        """Where `quality` was measured, such as `search split`; empty where that is not known."""
        return next((one.environment for one in self.metrics if one.name == self.quality_metric), "")

    @property
    def has_shared_weights(self) -> bool:
        """Whether `quality` is that of a slice of a supernet, and so not what the network itself reaches."""
        return SHARED_WEIGHTS in self.measured_on

    @property
    def mean_quality(self) -> float | None:
        """Mean over all trainings of its network, replicates included."""
        return statistics.fmean(self.values) if self.values else self.quality

    @property
    def mean_value(self) -> float | None:
        """`value`, as a mean over all trainings of its network."""
        return self.mean_quality if self.quality_metric == self.objective.goal.metric else self.value

    @property
    def accuracies(self) -> tuple[float, ...]:
        """`values`, where they are accuracies; else empty."""
        return self.values if self.quality_metric == "accuracy" else ()

    @property
    def mean_accuracy(self) -> float | None:
        """`accuracy`, as a mean over all trainings of its network where that is what tells how good it is."""
        return self.mean_quality if self.quality_metric == "accuracy" else self.accuracy

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.cost.macs

    @property
    def params(self) -> int:
        """Trained parameters."""
        return self.cost.params

    @property
    def costs(self) -> dict[str, float]:
        """Known costs and everything measured, by name."""
        return all_costs(self.cost, self.metrics)

    @property
    def network_json(self) -> str:
        """Its network as the journal has it; of a large study it is read there when asked for.

        Raises:
            StudyError: The journal cannot be read any more.
        """
        return read_network(self.folder, self.digest) if self.known_network is None else self.known_network

    @property
    def network(self) -> Network:
        """The candidate's network.

        Raises:
            StudyError: The journal cannot be read any more.
            SpaceError: It holds a user's own op, and the study was opened without its space.
        """
        return Network.from_json(self.network_json, self.op_types)

    @property
    def log_file(self) -> Path | None:
        """What went wrong in its attempts; None where nothing did, or where its log was dropped."""
        path = self.folder / log_name(self.number)
        return path if path.is_file() else None

    def metric(self, name: str) -> float | None:
        """A measured value by name; None where it was not measured."""
        return next((metric.value for metric in self.metrics if metric.name == name), None)

    def weights(self) -> bytes:
        """The trained weights as safetensors.

        Raises:
            StudyError: They were not kept.
        """
        if self.has_shared_weights:
            raise StudyError(
                f"trial {self.number} has no weights of its own: it was measured with shared weights; train "
                f"its network first, nas train {self.folder} --out DIR, which exports it too"
            )
        if self.weights_file is None or not self.weights_file.is_file():
            raise StudyError(
                f"the weights of trial {self.number} are not kept: only the best trials and the Pareto front "
                "have theirs, if the evaluator gives any; choose one of those, or train its network again"
            )
        return read_bytes(self.weights_file)

    def build(self) -> nn.Module:
        """The trained module in eval mode: (batch, channels, height, width) -> (batch, classes) logits.

        Raises:
            StudyError: Its weights were not kept.
        """
        weights = self.weights()
        from safetensors.torch import load

        from search_spaces import build

        module = build(self.network, seed=self.seed)
        module.load_state_dict(load(weights))
        return module.eval()

    def export(self, folder: Path | str, *, overwrite: bool = False, with_onnx: bool = True) -> Bundle:
        """Writes network and weights as a folder that needs nothing of ours, and checks it.

        Args:
            folder: Where to; it must not exist, be empty, or be a bundle that may be overwritten.
            overwrite: Replaces a bundle that is there already.
            with_onnx: Writes `model.onnx` too.

        Raises:
            StudyError: Its weights were not kept.
            ExportError: The bundle cannot be written, or does not reproduce the network.
        """
        weights = self.weights()
        from nas.export.bundle import export_bundle
        from nas.export.card import Origin
        from nas.export.preprocessing import Preprocessing
        from nas.tested_weights import read_tested_weights

        text = self.provenance.preprocessing_json
        origin = Origin(
            study=str(self.folder),
            trial=self.number,
            seed=self.seed,
            space=self.provenance.space_name,
            data=self.provenance.data_text,
            recipe=self.provenance.recipe_json,
            objective=self.objective.describe(),
            metrics=self.metrics,
            accuracies=self.accuracies,
            tested=read_tested_weights(self.folder, weights),
        )
        return export_bundle(
            folder,
            network=self.network,
            weights=weights,
            preprocessing=Preprocessing.from_json(text) if text else None,
            origin=origin,
            overwrite=overwrite,
            with_onnx=with_onnx,
        )


def study_trial(
    table: TrialTable,
    place: int,
    folder: Path,
    *,
    provenance: Provenance,
    objective: Objective,
    values: tuple[float, ...] = (),
    op_types: tuple[type[Op], ...] = (),
    known_network: str | None = None,
) -> StudyTrial:
    """One trial of a table, by its place.

    Raises:
        ValueError: Its tokens cannot be read.
    """
    outcome, digest = table.outcome(place), table.digests[place]
    return StudyTrial(
        folder=folder,
        number=outcome.number,
        status=outcome.status,
        tokens=table.tokens(place),
        digest=digest,
        cost=table.cost(place),
        reward=outcome.reward,
        metrics=outcome.metrics,
        cause=outcome.cause,
        message=outcome.message,
        replicate=table.columns["repeat"][place],
        attempts=table.attempts[place],
        seconds=table.seconds[place],
        copied_from=outcome.copied_from,
        weights_file=None if outcome.weights_file is None else folder / outcome.weights_file,
        values=values,
        provenance=provenance,
        objective=objective,
        op_types=op_types,
        known_network=known_network,
        **{name: table.columns[name][place] for name in _AS_STORED},
    )


_AS_STORED = ("origin", "seed", "fidelity", "continues", "proposed_at", "finished_at")


def values_of_repeated(table: TrialTable, metric: str) -> dict[tuple[str, float], tuple[float, ...]]:
    """A metric of all completed trainings of each network at each fidelity, where there are several."""
    keys = list(zip(table.digests, table.columns["fidelity"], strict=True))
    own = np.flatnonzero(table.is_completed & ~table.is_copy).tolist()
    count = Counter(keys[place] for place in own)
    found: dict[tuple[str, float], list[float]] = defaultdict(list)
    for place in own:
        if count[keys[place]] > 1:
            measured = (one.value for one in table.metrics(place) if one.name == metric)
            found[keys[place]].extend(itertools.islice(measured, 1))
    return {key: tuple(values) for key, values in found.items() if len(values) > 1}
