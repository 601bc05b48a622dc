"""What the sections of a page are made from: a study, and what was worked out of it once."""

from __future__ import annotations

from dataclasses import dataclass, field

from nas.evaluation.comparison import Comparison, load_comparison
from nas.report.page.attached import Attached
from nas.study.insight import Insight, explain, unexplained
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from search_spaces import SpaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A study, and what several sections need of it.

    Attributes:
        study: The study.
        command: The command line that searches again as it did; empty where its settings say too little.
        insight: What its results say of its decisions; None where they say nothing.
        unexplained: Why they say nothing; empty where they do.
        comparison: The comparison on the test split; None where there was none.
        shown: The trials that charts show and that open when they are asked for, by number.
        beside: Trainings, scores and others in its folder, and in those that were given with it.
    """

    study: Study
    command: str
    insight: Insight | None
    unexplained: str
    comparison: Comparison | None
    shown: tuple[StudyTrial, ...]
    beside: Attached = field(default_factory=Attached)

    @classmethod
    def of(
        cls, study: Study, *, most_trials: int, command: str = "", beside: Attached | None = None
    ) -> Source:
        """What there is to know of a study.

        Args:
            study: The study.
            most_trials: So many trials are shown at most.
            command: The command line that searches again.
            beside: What was given with it.

        Raises:
            StudyError: A file of the study cannot be read.
        """
        why = unexplained(study)
        try:
            insight = None if why else explain(study)
        except SpaceError as error:
            insight, why = None, str(error)
        return cls(
            study=study,
            command=command,
            insight=insight,
            unexplained=why,
            comparison=load_comparison(study.folder),
            shown=sample(study, most_trials),
            beside=beside or Attached(),
        )


def sample(study: Study, most: int) -> tuple[StudyTrial, ...]:
    """The trials of a study that are shown: the winner, the front, the best, and others evenly over time."""
    if len(study.table) <= most:
        return study.trials
    first = [
        *((study.best,) if study.has_completed else ()),
        *study.pareto_front(),
        *study.ranked(most // 10),
    ]
    kept = {trial.number for trial in first[:most]}
    others = [number for number in range(len(study.table)) if number not in kept]
    room = most - len(kept)
    kept |= {others[place * len(others) // room] for place in range(room)}
    return study.trials_at(sorted(kept))
