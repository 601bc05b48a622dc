"""The laws of each trial of a journal: its proposal, attempts, result, reward, and its ties to others."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from nas.errors import MetricError, ObjectiveError
from nas.objective import Objective
from nas.objective.terms import metric_of
from nas.outcome import all_costs
from nas.reading import parse_json
from nas.study.problems import Mend, Problem, Severity
from nas.study.verify_rows import Row, Rows, finite, is_finished, of_trial
from nas.trial import Cause, Metric
from search_spaces import Cost

MOST_LOST = 3
"""A trial is given up after so many attempts that began and were lost; see `nas.scheduling.ATTEMPTS`."""

REWARD_ROUNDING = 1e-9
"""Share by which a reward may differ that another machine computes from the same numbers."""

PROPOSAL = "a trial has tokens, a candidate of the study, a fidelity in (0, 1], a replicate and a seed"
COMPLETED = "a completed trial has a finite reward, a finish time, its measurements and one completed attempt"
FAILED = "an infeasible or lost trial has a finish time, its cause, and the attempt that settled it"
UNFINISHED = "an unfinished trial has no result"
NUMBERED = "the attempts of a trial are numbered 1, 2, ... in their order"
RUNNING = "no attempt is left running when no search runs"
CAUSED = "a lost or infeasible attempt has its cause"
TRIES = f"a trial is given up after {MOST_LOST} attempts that a machine lost; interruptions cost none"
COPIED = "a copied result is that of a finished trial with an equal candidate, fidelity and replicate"
CONTINUED = "a trial continues an earlier, completed trial of the same candidate at a lower fidelity"
REWARDED = "the reward is the objective's value of what was measured and of the network's costs"
SEALED = "a trial stays as it was written"
ONCE = "no candidate is trained twice at one fidelity and replicate"


def trial_problems(rows: Rows, objective: Objective | None, *, is_running: bool) -> Iterator[Problem]:
    """What is wrong with the trials; of each the most serious first, and nothing that follows from it."""
    for number in range(max(rows.trials, default=-1) + 1):
        row = rows.trials.get(number)
        if row is None:
            yield of_trial(
                number,
                "trials are numbered 0, 1, 2, ... without gaps",
                "there is no such trial: its row is lost",
                Severity.LOST,
                Mend.REFILL,
            )
            continue
        found = _of_result(number, row, rows, objective)
        if found is not None:
            yield found
        if not is_running:
            yield from _of_attempts(number, row, rows)
    yield from _negative(rows)
    yield from _twice(rows)


def _negative(rows: Rows) -> Iterator[Problem]:
    for number in rows.trials:
        if number < 0:
            yield of_trial(
                number, "trials are numbered 0, 1, 2, ...", "its number", Severity.LOST, Mend.DROP_ROWS
            )


def _of_result(number: int, row: Row, rows: Rows, objective: Objective | None) -> Problem | None:
    """The first law that a trial's row breaks."""
    if wrong := _proposal(row, rows) or _continues(number, row, rows):
        return of_trial(
            number, PROPOSAL if "continues" not in wrong else CONTINUED, wrong, Severity.LOST, Mend.REFILL
        )
    if rows.broken_seals.get(number):
        wrong = "its tokens, candidate, fidelity, replicate or seed are not those that were proposed"
        return of_trial(number, SEALED, wrong, Severity.LOST, Mend.REFILL)
    law, wrong = _outcome(number, row, rows)
    if wrong:
        return of_trial(number, law, wrong, Severity.DOUBTFUL, Mend.RERUN)
    if (
        row["status"] == "completed"
        and objective is not None
        and (wrong := _reward(number, row, rows, objective))
    ):
        return of_trial(number, REWARDED, wrong, Severity.DOUBTFUL, Mend.RERUN)
    if number in rows.broken_seals:
        wrong = "its result or what was measured is not what was written when it finished"
        return of_trial(number, SEALED, wrong, Severity.DOUBTFUL, Mend.RERUN)
    return None


def _proposal(row: Row, rows: Rows) -> str:
    """What a proposal lacks; empty where it is whole."""
    try:
        tokens = parse_json(row["tokens_json"])
        if not isinstance(tokens, list) or not all(type(token) is int and token >= 0 for token in tokens):
            return "its tokens are no list of option indices"
    except (ValueError, TypeError, RecursionError):
        return "its tokens cannot be read"
    if row["digest"] not in rows.candidates:
        return f"its candidate {row['digest']} is not in the journal"
    fidelity = finite(row["fidelity"])
    if fidelity is None or not 0 < fidelity <= 1:
        return f"its fidelity is {row['fidelity']!r}"
    for name, label in (("repeat", "replicate"), ("seed", "seed")):
        if type(row[name]) is not int or row[name] < 0:
            return f"its {label} is {row[name]!r}"
    if row["origin"] not in ("controller", "user"):
        return f"its origin is {row['origin']!r}"
    return ""


def _continues(number: int, row: Row, rows: Rows) -> str:
    before = row.get("continues")
    if before is None:
        return ""
    base = rows.trials.get(before)
    if base is None or not 0 <= before < number:
        return f"it continues trial {before}, which is no earlier trial"
    if base["digest"] != row["digest"]:
        return f"it continues trial {before}, which is of another candidate"
    fidelity = finite(base["fidelity"])
    if fidelity is None or not fidelity < row["fidelity"]:
        return f"it continues trial {before}, which has no lower fidelity"
    return ""


def _outcome(number: int, row: Row, rows: Rows) -> tuple[str, str]:
    """The law that a trial's outcome breaks, and how; empty where it is whole."""
    attempts = rows.attempts.get(number, [])
    settled = [one for one in attempts if one["status"] == "completed"]
    if not is_finished(row):
        if row["status"] not in ("proposed", "running"):
            return UNFINISHED, f"its status is {row['status']!r}"
        has_result = any(row[name] is not None for name in ("reward", "finished_at", "copied_from"))
        if has_result or settled or rows.measurements.get(number):
            return UNFINISHED, f"its status is {row['status']}, but half of a result is there"
        return "", ""
    law = COMPLETED if row["status"] == "completed" else FAILED
    if not row["finished_at"]:
        return law, "it has no finish time"
    if row["copied_from"] is not None:
        return COPIED, _copy(row, rows)
    if len(settled) > 1:
        return law, f"{len(settled)} of its attempts are completed"
    if row["status"] == "completed":
        return law, _completed(number, row, rows, is_settled=bool(settled))
    return law, _failed(row, attempts)


def _completed(number: int, row: Row, rows: Rows, *, is_settled: bool) -> str:
    if finite(row["reward"]) is None:
        return f"its reward is {row['reward']!r}"
    if row["cause"] is not None:
        return f"it has the cause of a failure, {row['cause']!r}"
    if not rows.measurements.get(number):
        return "nothing that was measured is there"
    return "" if is_settled else "none of its attempts is completed"


def _failed(row: Row, attempts: list[Row]) -> str:
    if row["cause"] not in set(Cause):
        return f"its cause is {row['cause']!r}"
    if row["reward"] is not None:
        return f"it has a reward, {row['reward']!r}"
    ends = {one["status"] for one in attempts}
    if row["status"] == "lost":
        return "" if "lost" in ends else "none of its attempts was lost"
    is_given_up = sum(one["cause"] == Cause.WORKER_DIED for one in attempts) >= MOST_LOST
    return "" if ends & {"completed", "infeasible"} or is_given_up else "no attempt has settled it"


def _copy(row: Row, rows: Rows) -> str:
    source = rows.trials.get(row["copied_from"])
    if source is None or source["number"] == row["number"]:
        return f"it copies trial {row['copied_from']}, which is not there"
    if source["status"] != row["status"] or source["copied_from"] is not None:
        return f"it copies trial {source['number']}, which is {source['status']}"
    if rows.key(source["number"]) != rows.key(row["number"]):
        return f"it copies trial {source['number']}, which trains something else"
    if (source["reward"], source["cause"]) != (row["reward"], row["cause"]):
        return f"it copies trial {source['number']}, but has another result"
    if _measured(rows, source["number"]) != _measured(rows, row["number"]):
        return f"it copies trial {source['number']}, but other metrics"
    return ""


def _measured(rows: Rows, number: int) -> list[tuple[object, ...]]:
    names = ("metric", "environment", "value", "unit")
    return [tuple(one[name] for name in names) for one in rows.measurements.get(number, ())]


def _reward(number: int, row: Row, rows: Rows, objective: Objective) -> str:
    """How a reward differs from what follows from the measurements; empty where it does not."""
    candidate = rows.candidates[row["digest"]]
    try:
        cost = Cost(**{name: int(candidate[name]) for name in ("macs", "params", "activations")})
        metrics = []
        for one in rows.measurements.get(number, ()):
            value = finite(one["value"])
            if value is None:
                return f"its {one['metric']} is stored as {one['value']!r}"
            metrics.append(
                Metric(name=one["metric"], value=value, unit=one["unit"], environment=one["environment"])
            )
        costs = all_costs(cost, tuple(metrics))
        if broken := objective.broken(costs):
            return f"it is completed, but breaks `{broken[0].describe()}`"
        # By the formula alone: what else a version asks of a metric did not hold for those before it.
        columns = {name: np.array([metric_of(costs, name)]) for name in _looked_at(objective)}
        computed = float(objective.rewards(columns[objective.goal.metric], columns)[0])
    except (ObjectiveError, MetricError, TypeError, ValueError, OverflowError) as error:
        return f"no reward follows from what was measured: {error}"
    stored = finite(row["reward"])
    if stored is None or not math.isclose(stored, computed, rel_tol=REWARD_ROUNDING, abs_tol=1e-12):
        return f"its reward is stored as {row['reward']!r}, but {computed!r} follows from what was measured"
    return ""


def _looked_at(objective: Objective) -> set[str]:
    return {objective.goal.metric, *(term.metric for term in objective.terms)}


def _of_attempts(number: int, row: Row, rows: Rows) -> Iterator[Problem]:
    attempts = rows.attempts.get(number, [])
    running = [one["number"] for one in attempts if one["status"] == "running"]
    if running or row["status"] == "running":
        wrong = f"attempt {running[-1]} is still running" if running else "it is running, but no attempt is"
        yield of_trial(number, RUNNING, wrong, Severity.HARMLESS, Mend.INTERRUPT)
    numbers = [one["number"] for one in attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        wrong = f"its attempts are numbered {', '.join(map(str, numbers))}"
        yield of_trial(number, NUMBERED, wrong, Severity.HARMLESS, Mend.RENUMBER)
    failed = [one for one in attempts if one["status"] in ("lost", "infeasible")]
    if any(one["cause"] not in set(Cause) for one in failed):
        yield of_trial(number, CAUSED, "one of its attempts has none", Severity.HARMLESS, Mend.NAME_CAUSE)
    lost = sum(one["status"] == "lost" and one["cause"] != Cause.INTERRUPTED for one in attempts)
    if lost > MOST_LOST:
        remedy = "nothing is to be done: it cost time only"
        yield of_trial(number, TRIES, f"{lost} of its attempts were lost", Severity.HARMLESS, None, remedy)


def _twice(rows: Rows) -> Iterator[Problem]:
    own: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, row in rows.trials.items():
        if row["status"] in ("completed", "infeasible") and row["copied_from"] is None:
            own[rows.key(number)].append(number)
    for first, *others in own.values():
        for number in others:
            remedy = "nothing is to be done: both results are real, and it cost time only"
            wrong = f"it was trained, although trial {first} has the same candidate, fidelity and replicate"
            yield of_trial(number, ONCE, wrong, Severity.HARMLESS, None, remedy)
