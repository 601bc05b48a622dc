"""Brings a search to where earlier runs of its study ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from controllers import ControllerError, Feedback, Proposal
from nas.catalogue import Catalogue
from nas.errors import StudyError
from nas.loop import Loop
from nas.outcome import TrialOutcome, feedback_of
from nas.rungs import Halving
from nas.scheduling import ATTEMPTS
from nas.study.checkpoints import Swept
from nas.study.journal_reading import History, read_begun
from nas.training.recipe import Recipe, is_of_first_version
from nas.trial import Cause, Status, Trial


def with_predictions(history: History, catalogue: Catalogue) -> History:
    """The history with what the table says of each candidate: the journal has it of finished trials."""
    if catalogue.latency is None:
        return history
    trials = [replace(t, predictions=catalogue.describe(t.tokens).predictions) for t in history.trials]
    return replace(history, trials=tuple(trials))


def restore(loop: Loop, history: History, halving: Halving | None, known: Feedback) -> Swept:
    """Brings everything to where earlier runs ended; a new study starts from what is known of others.

    Returns:
        What was found in the folder of weights.
    """
    loop.flow.restore(history)
    loop.progress.restore(history, width=loop.flow.width)
    if halving is not None:
        halving.restore(history.trials, history.finished.values())
    loop.checkpoints.restore((history.trials[n], outcome) for n, outcome in history.finished.items())
    swept = loop.checkpoints.sweep({trial.number for trial in history.trials})
    if history.controller_state is not None:
        try:
            loop.controller.load_state_dict(history.controller_state)
        except ControllerError as error:
            raise StudyError(f"{loop.journal.folder} holds a study of another controller: {error}") from error
        except KeyError as error:
            raise StudyError(
                f"{loop.journal.folder} was searched by an earlier version of mnas, whose controllers "
                f"remembered less (there is no {error}): continue with that version, or begin a new study "
                "with this one as its warm start"
            ) from error
        _continue(loop, history)
    elif known:
        loop.controller.feedback(known)
    for number in history.lost(loop.flow.width):  # an earlier run may have ended before it said so
        trial = history.trials[number]
        loop.source.count(trial)
        if trial.continues is None:
            loop.controller.feedback([feedback_of(trial, history.finished[number], None, loop.objective)])
    return swept


def _continue(loop: Loop, history: History) -> None:
    """Takes the controller from its written state to where it was, by what it did since then."""
    if _repeat(loop, history):
        return
    loop.controller.load_state_dict(history.controller_state or {})
    for step in history.steps:
        if not step.is_proposal:
            _tell_again(loop, history, step.trial)
    loop.tell(
        "controller_differs",
        "the controller proposes other candidates than before from the same state (its numbers differ on "
        "this machine or in this version): it goes on from all results, on another path than it would have",
    )


def _repeat(loop: Loop, history: History) -> bool:
    """Lets the controller do again what it did since its state was written; says whether it did the same."""
    answer: Sequence[Proposal] = ()
    for step in history.steps:
        for _ in range(step.asks):
            answer = loop.controller.propose(step.size)
        trial = history.trials[step.trial]
        if not step.is_proposal:
            _tell_again(loop, history, step.trial)
        elif trial.proposal_number >= 0 and trial.tokens not in (tuple(one.tokens) for one in answer):
            return False
    return True


def _tell_again(loop: Loop, history: History, number: int) -> None:
    trial, outcome = history.trials[number], history.finished[number]
    if trial.continues is None:
        told = feedback_of(trial, outcome, history.rewards[number], loop.objective)
        loop.controller.feedback([told])


def say_what_changed(loop: Loop, history: History) -> None:
    """Says where the controller of an earlier version would have proposed other candidates from here on."""
    before, now = history.controller_state or {}, loop.controller.state_dict()
    if history.controller_state is not None and before.get("version", 1) != now.get("version", 1):
        loop.tell(
            "controller_changed",
            "this study was begun with an earlier version of its controller: it goes on from all its "
            "results, but proposes other candidates than that version would have",
        )


def count_deaths(loop: Loop, history: History) -> None:
    """Names the trials during which the process of the search ended, and gives up those of three times."""
    for trial in list(loop.flow.waiting):
        deaths = history.deaths.get(trial.number, 0)
        if deaths:
            loop.tell(
                "process_died",
                f"trial {trial.number}: the process of the search ended while it ran, {deaths} of at most "
                f"{ATTEMPTS} times: it crashed, was killed, or ran out of memory",
            )
        if deaths >= ATTEMPTS:
            _give_up(loop, trial, deaths)


def _give_up(loop: Loop, trial: Trial, deaths: int) -> None:
    outcome = TrialOutcome(
        number=trial.number,
        status=Status.INFEASIBLE,
        cause=Cause.WORKER_DIED,
        message=f"the process of the search ended {deaths} times while this trial ran in it",
    )
    loop.flow.waiting.remove(trial)
    loop.source.note(trial, outcome)
    loop.journal.finish(outcome)
    loop.flow.settle(trial, outcome, None)


def recipe_for(recipe: Recipe | None, folder: Path) -> Recipe:
    """The recipe to train by; a study of an earlier version continues with what its fields meant then."""
    chosen = recipe if recipe is not None else Recipe()
    begun = read_begun(folder)
    is_old = begun is not None and is_of_first_version(begun[1].recipe_json)
    return chosen.as_at_first() if is_old else chosen
