"""The laws of a journal beside its trials: what the controller was told, its state, the candidates."""

from __future__ import annotations

from collections.abc import Iterator

from controllers import ControllerError, state_from_json
from nas.errors import ObjectiveError
from nas.objective import Objective
from nas.reading import parse_json
from nas.study.journal_reading import MOST_AT_ONCE
from nas.study.problems import Mend, Problem, Severity
from nas.study.verify_rows import Row, Rows, finite, is_finished, of_trial
from nas.values import shown
from search_spaces import Network, Op, SearchSpace, SpaceError, cost
from search_spaces.json_form import op_name
from search_spaces.ops import BUILT_IN_OPS

RANKED = "feedback ranks are 0, 1, 2, ... without gaps, of finished trials that were not lost"
TOLD = "the controller was told the reward of a completed trial"
STATE = "the controller's state can be read, and knows of as many trials as there are"
STEPS = "the steps since the controller's state follow each other and name trials"
CANDIDATE = "a candidate's digest and costs are those of its network"
COSTS = "its costs are not those of its network"
TOKENS = "the tokens of a trial are those of its candidate"
RECOMMENDED = "a recommended candidate is in the journal"
IDENTITY = "what was searched is what the journal's copy of it says"
STUDY = "the study's row can be read: its objective and how it was asked for"

COPY_BACK = "restore study.sqlite from a copy, or begin a new study; if this one opens, as its `warm_start`"
"""What a user can do where rows are lost that nothing else has."""


def objective_of(rows: Rows) -> Objective | None:
    """The objective of a study; None where it cannot be read."""
    if rows.study is None:
        return None
    try:
        return Objective.from_json(rows.study["objective"])
    except (ObjectiveError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def state_problems(rows: Rows) -> Iterator[Problem]:
    """What is wrong beside the trials."""
    yield from _study(rows)
    yield from _identity(rows)
    controller = [*_ranks(rows), *_state(rows)]
    yield from controller
    count = {row["digest"] for row in rows.trials.values()}
    unused = [str(digest) for digest in rows.candidates if digest not in count]
    if unused:
        yield Problem(
            law="a candidate in the journal is one of a trial",
            where="table candidate",
            found=f"{len(unused)} of no trial: {', '.join(unused[:3])}",
            severity=Severity.HARMLESS,
            mend=Mend.DROP_ROWS,
            key="candidate",
        )
    unknown = [row for row in rows.recommended if row["digest"] not in rows.candidates]
    if unknown or [row["rank"] for row in rows.recommended] != list(range(len(rows.recommended))):
        yield Problem(
            law=RECOMMENDED,
            where="table recommendation",
            found=f"{len(unknown)} of {len(rows.recommended)} are not" if unknown else "its ranks have gaps",
            severity=Severity.HARMLESS,
            mend=Mend.FORGET_RECOMMENDATION,
        )


def _study(rows: Rows) -> Iterator[Problem]:
    found = ""
    if rows.study is None:
        found = "there is no such row"
    elif objective_of(rows) is None:
        found = "its objective cannot be read"
    else:
        try:
            dict(parse_json(rows.study["settings_json"]))
        except (ValueError, TypeError, RecursionError):
            found = "its settings cannot be read"
    if found:
        yield Problem(law=STUDY, where="table study", found=found, severity=Severity.LOST, remedy=COPY_BACK)


def _identity(rows: Rows) -> Iterator[Problem]:
    """Whether what was searched is what it was at the start; earlier versions wrote it once."""
    if rows.study is None or not rows.has_copy:
        return
    if rows.identity is None:
        found, mend = "the copy is not what was written", Mend.COPY_IDENTITY
        severity = Severity.HARMLESS
    else:
        names = [name for name, value in rows.identity.items() if rows.study.get(name) != value]
        if not names:
            return
        severity, mend = Severity.DOUBTFUL, Mend.RESTORE_IDENTITY
        found = ", ".join(f"{name} is {shown(rows.study.get(name))}" for name in names)
    yield Problem(law=IDENTITY, where="table study", found=found, severity=severity, mend=mend)


def _ranks(rows: Rows) -> Iterator[Problem]:
    """The first law that what was fed back breaks, as one repair mends them all."""
    ranked = {n: row["feedback_rank"] for n, row in rows.trials.items() if row["feedback_rank"] is not None}
    for number in ranked:
        row = rows.trials[number]
        if not is_finished(row) or row["status"] == "lost":
            wrong = f"it has a rank, but is {row['status']}"
            yield of_trial(number, RANKED, wrong, Severity.DOUBTFUL, Mend.RECOUNT)
            return
        told = row["feedback_reward"]
        if row.get("continues") is None and (
            finite(told) is None or (row["status"] == "completed" and finite(told) != finite(row["reward"]))
        ):
            wrong = f"it was told {told!r}, but its reward is {row['reward']!r}"
            yield of_trial(number, TOLD, wrong, Severity.DOUBTFUL, Mend.RECOUNT)
            return
    if set(ranked.values()) != set(range(len(ranked))):
        yield _of_controller("table trial", RANKED, f"{len(ranked)} ranks have gaps or repeat")


def _of_controller(where: str, law: str, found: str) -> Problem:
    return Problem(law=law, where=where, found=found, severity=Severity.DOUBTFUL, mend=Mend.RECOUNT)


def _state(rows: Rows) -> Iterator[Problem]:
    ranked = sum(row["feedback_rank"] is not None for row in rows.trials.values())
    if rows.controller is None:
        if ranked or rows.steps:
            yield _of_controller("table controller", STATE, "there is no state, but results were told")
        return
    if wrong := _unreadable(rows.controller["state_json"]):
        yield _of_controller("table controller", STATE, wrong)
        return
    known = rows.controller
    numbers = [known[name] for name in ("proposals", "feedbacks", "rejected")]
    numbers += [known.get(name, 0) for name in ("steps", "asked")]
    if not all(type(number) is int and number >= 0 for number in numbers):
        yield _of_controller("table controller", STATE, "one of its counts is no count")
        return
    if wrong := _steps(rows):
        yield _of_controller("table step", STEPS, wrong)
        return
    proposed = known["proposals"] + sum(step["kind"] == "proposed" for step in rows.steps)
    counted = [step["trial"] for step in rows.steps if step["kind"] == "counted"]
    told = known["feedbacks"] + sum(rows.trials[n]["status"] != "lost" for n in counted)
    if proposed != len(rows.trials):
        wrong = f"the controller made {proposed} trials, but {len(rows.trials)} are there"
        yield Problem(law=STATE, where="table trial", found=wrong, severity=Severity.LOST, mend=Mend.RECOUNT)
    elif told != ranked:
        wrong = f"the controller was told {told} results, but {ranked} trials have a rank"
        yield _of_controller("table trial", STATE, wrong)


def _unreadable(text: object) -> str:
    try:
        state_from_json(text)  # type: ignore[arg-type]  # a damaged row may hold anything
    except (
        ControllerError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        return f"its state cannot be read: {error}"
    return ""


def _steps(rows: Rows) -> str:
    """What is wrong with the steps since the state; empty where nothing is."""
    number, asked = (rows.controller or {}).get("steps", 0), (rows.controller or {}).get("asked", 0)
    for step in rows.steps:
        number += 1
        trial = rows.trials.get(step["trial"])
        if step["number"] != number:
            return f"step {number} is missing"
        if trial is None or (step["kind"] == "counted" and not is_finished(trial)):
            return f"step {number} is of trial {step['trial']}, which is not there or not finished"
        if type(step["asked"]) is not int or step["asked"] < asked:
            return f"step {number} has asked the controller less often than the one before it"
        size = step.get("size", 1)
        if type(size) is not int or not 1 <= size <= MOST_AT_ONCE:
            return f"step {number} asks the controller for {size!r} proposals at once"
        asked = step["asked"]
    return ""


def candidate_problems(rows: Rows, space: SearchSpace | None) -> tuple[list[Problem], int]:
    """What is wrong with the candidates, and how many have ops of the user's and cannot be checked."""
    types = () if space is None else space.op_types
    known = {op_name(op) for op in (*BUILT_IN_OPS, *types)}
    found: list[Problem] = []
    unchecked = 0
    for digest, row in rows.candidates.items():
        if _ops(row["network_json"]) - known:
            unchecked += 1
        elif wrong := _candidate(digest, row, types):
            found.append(_of_candidate(digest, wrong, space))
    named = {digest: number for number, row in rows.trials.items() if (digest := row["digest"])}
    found += [_of_candidate(d, "its row is lost", space) for d in named if d not in rows.candidates and space]
    return found, unchecked


def _candidate(digest: str, row: Row, types: tuple[type[Op], ...]) -> str:
    try:
        network = Network.from_json(row["network_json"], types)
        costs = cost(network)
    except (SpaceError, ValueError, TypeError, RecursionError) as error:
        return f"its network cannot be read: {error}"
    if network.digest != digest:
        return f"its network has the digest {network.digest}"
    differs = any(row[name] != getattr(costs, name) for name in ("macs", "params", "activations"))
    return COSTS if differs else ""


def _of_candidate(digest: object, found: str, space: SearchSpace | None) -> Problem:
    mend = Mend.RECOST if found == COSTS else None if space is None else Mend.REWRITE
    return Problem(
        law=CANDIDATE,
        where=f"candidate {digest}",
        found=found,
        severity=Severity.DOUBTFUL if mend else Severity.LOST,
        mend=mend,
        remedy="" if mend else "give the space in Python: nas.verify(folder, repair=True, space=...)",
        key=str(digest),
    )


def token_problems(rows: Rows, space: SearchSpace) -> Iterator[Problem]:
    """Trials whose tokens are not those of their candidate."""
    for number, row in rows.trials.items():
        try:
            digest = space.digest(parse_json(row["tokens_json"]))
        except (SpaceError, ValueError, TypeError, IndexError, RecursionError) as error:
            digest = str(error)
        if digest != row["digest"]:
            wrong = f"they mean {digest}, but its candidate is {row['digest']}"
            yield of_trial(number, TOKENS, wrong, Severity.LOST, Mend.REFILL)


def _ops(text: object) -> set[str]:
    """Names of the ops in a network's JSON; none where it cannot be read."""
    found: set[str] = set()
    try:
        waiting = [parse_json(text)]  # type: ignore[arg-type]  # a damaged row may hold anything
    except (ValueError, TypeError, RecursionError):
        return found
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found |= {value["op"]} if isinstance(value.get("op"), str) else set()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return found
