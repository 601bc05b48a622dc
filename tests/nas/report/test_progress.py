import io

from rich.console import Console

from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.objective import Objective
from nas.report.progress import TerminalReporter
from nas.short_form import search
from nas.trial import Cause, InfeasibleError


def watched(space, folder, table, *, trials=6, is_terminal=False, **options):
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=140, color_system=None, highlight=False)
    search(
        space,
        evaluator=TableEvaluator(table),
        controller="random",
        trials=trials,
        executor=InlineExecutor(),
        out=folder,
        reporters=(TerminalReporter(console),),
        **options,
    )
    return text.getvalue()


def failing(candidate):
    if candidate.job.trial in (1, 3):
        raise InfeasibleError(Cause.DIVERGED, f"loss is nan in trial {candidate.job.trial}")
    return 0.25 + 0.1 * candidate.job.trial


def test_without_a_terminal_there_is_one_line_for_each_trial(small_space, tmp_path):
    text = watched(small_space, tmp_path, lambda _: 0.5)
    lines = [line for line in text.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in lines] == [f"[{n}/6" for n in range(1, 7)]
    assert "\x1b" not in text


def test_a_line_says_reward_accuracy_and_macs_and_what_is_best(small_space, tmp_path):
    objective = Objective.soft("macs", 50_000)
    text = watched(small_space, tmp_path, failing, objective=objective)
    lines = [line for line in text.splitlines() if line.startswith("[")]
    assert "accuracy 0.2500" in lines[0]
    assert "reward" in lines[0]
    assert "macs" in lines[0]
    assert lines[0].endswith("best so far")


def test_the_first_failure_is_shown_with_its_log_and_where_that_is(small_space, tmp_path):
    text = watched(small_space, tmp_path, failing)
    assert "infeasible (diverged): loss is nan in trial 1" in text
    assert "Traceback (most recent call last)" in text
    assert text.count("Traceback") == 1
    assert str(tmp_path / "logs" / "trial-00001.log") in text


def test_the_end_says_why_and_counts_what_became_of_the_trials(small_space, tmp_path):
    text = watched(small_space, tmp_path, failing)
    assert "all trials are done after" in text
    assert "4 completed, 2 infeasible" in text


def test_a_resumed_search_says_how_much_is_done(small_space, tmp_path):
    watched(small_space, tmp_path, lambda _: 0.5, trials=3)
    text = watched(small_space, tmp_path, lambda _: 0.5, trials=5)
    assert "3 trials done" in text
    assert "[4/5]" in text
    assert "[3/5]" not in text


def test_a_stopped_search_says_how_to_continue(small_space, tmp_path):
    def stop(candidate):
        if candidate.job.trial == 2:
            raise KeyboardInterrupt
        return 0.5

    text = watched(small_space, tmp_path, stop)
    assert f"continue with: nas resume {tmp_path}" in text


def test_a_terminal_has_a_live_summary_below_the_lines(small_space, tmp_path):
    text = watched(small_space, tmp_path, failing, is_terminal=True)
    assert "best so far: trial 5" in text
    assert "failures 2" in text
    assert "6/6 trials" in text


def test_the_note_on_a_soft_target_is_printed(small_space, tmp_path):
    text = watched(small_space, tmp_path, lambda _: 0.5, trials=1, objective=Objective.soft("macs", 50_000))
    assert "a target is only a unit" in text


def test_no_time_is_left_when_all_trials_are_done(small_space, tmp_path):
    reporter = TerminalReporter(Console(file=io.StringIO(), width=140))
    search(
        small_space,
        evaluator=TableEvaluator(lambda _: 0.5, seconds=0.001),
        controller="random",
        trials=3,
        executor=InlineExecutor(),
        out=tmp_path,
        reporters=(reporter,),
    )
    assert reporter.eta_seconds() == 0.0
