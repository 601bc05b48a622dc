import io
import itertools

import pytest
from rich.console import Console

from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.report.activity import EVERY_SECONDS, FIRST_SECONDS, Activity, Running
from nas.report.progress import SILENT_SECONDS, TerminalReporter
from nas.short_form import search
from nas.training.epoch_progress import EpochProgress
from nas.trial import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Paper(io.StringIO):
    """A file that remembers when each line was written."""

    def __init__(self, clock):
        super().__init__()
        self.times = []
        self._clock = clock

    def write(self, text):
        self.times += [self._clock()] * text.count("\n")
        return super().write(text)

    @property
    def lines(self):
        return self.getvalue().splitlines()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def paper(clock):
    return Paper(clock)


def console_on(paper, *, is_terminal=False):
    return Console(file=paper, force_terminal=is_terminal, width=140, color_system=None, highlight=False)


def pass_time(clock, activity, seconds, step=0.5):
    """Time goes by while a thread would look whether a line is due."""
    for _ in range(round(seconds / step)):
        clock.now += step
        activity.tick()


def make(paper, clock, words="loading", **options):
    return Activity(console_on(paper), words, clock=clock, tick_seconds=None, **options)


@pytest.mark.parametrize("seconds", [0.5, 1.0, FIRST_SECONDS - 0.5])
def test_what_is_soon_over_prints_nothing(paper, clock, seconds):
    with make(paper, clock) as activity:
        activity("half of it")
        pass_time(clock, activity, seconds)
    assert paper.lines == []


@pytest.mark.parametrize(("seconds", "lines"), [(5, 1), (34, 1), (35, 2), (66, 3), (600, 20)])
def test_what_lasts_is_said_and_then_at_most_every_30_seconds(paper, clock, seconds, lines):
    with make(paper, clock) as activity:
        pass_time(clock, activity, seconds)
    assert len(paper.lines) == lines
    assert all(b - a >= EVERY_SECONDS for a, b in itertools.pairwise(paper.times))


def test_a_line_says_what_how_far_and_since_when(paper, clock):
    with make(paper, clock) as activity:
        activity("decoded 20 of 500 images")
        pass_time(clock, activity, 6)
    assert paper.lines == ["loading: decoded 20 of 500 images (5.0 s)"]


def test_other_lines_end_the_silence(paper, clock):
    with make(paper, clock) as activity:
        for _ in range(50):
            pass_time(clock, activity, 2)
            activity.print("a result")
    assert paper.lines == ["a result"] * 50


def test_an_activity_can_be_entered_again(paper, clock):
    activity = make(paper, clock)
    for _ in range(2):
        with activity:
            pass_time(clock, activity, 1)
        clock.now += 100  # between the two nothing goes on
    assert paper.lines == []


def test_a_thread_says_it_while_nobody_reports(paper):
    ticks = itertools.count(0.0, 2.0)  # every look at the clock is two seconds later
    with Activity(console_on(paper), "importing", clock=lambda: next(ticks), tick_seconds=0.001) as activity:
        while not paper.lines:
            pass
        assert activity._thread is not None
    assert paper.lines[0].startswith("importing (")
    assert activity._thread is None


@pytest.mark.parametrize("is_quiet", [True, False])
def test_a_terminal_shows_it_at_once_and_keeps_nothing_but_other_lines(clock, is_quiet):
    paper = Paper(clock)
    console = console_on(paper, is_terminal=True)
    with Activity(console, "loading", clock=clock, tick_seconds=None, is_quiet=is_quiet) as activity:
        activity("decoded 20 of 500 images")
        activity.print("a result")
    text = paper.getvalue()
    assert "loading: decoded 20 of 500 images (0.0 s)" in text or not is_quiet
    assert "a result" in text
    last = text.rsplit("a result", 1)[1]
    assert "loading" not in last.rstrip("\r").rsplit("\r", 1)[-1]


def test_an_activity_without_words_says_nothing(paper, clock):
    with make(paper, clock, words="") as activity:
        pass_time(clock, activity, 100)
    assert paper.lines == []


def test_running_trials_are_named_and_too_many_are_counted():
    running = Running()
    running.note(Progress(text="starting Ray"))
    assert running.text == "starting Ray"
    for trial in range(5):
        running.note(Progress(text="begins", trial=trial))
    running.note(Progress(text="epoch 2 of 5", trial=1))
    assert running.text == "trial 0: begins; trial 1: epoch 2 of 5; trial 2: begins; 2 more"
    for trial in (0, 1, 3, 4):
        running.end(trial)
    assert running.text == "trial 2: begins"


class SlowEvaluator:
    """Trains as long as a test's clock says, and says its epochs."""

    fingerprint = "slow"

    def __init__(self, clock, reporter, epochs, seconds):
        self.clock, self.reporter = clock, reporter
        self.epochs, self.seconds = epochs, seconds

    def prepare(self):
        pass

    def evaluate(self, candidate):
        for epoch in range(self.epochs):
            candidate.progress(f"epoch {epoch + 1} of {self.epochs}")
            pass_time(self.clock, self.reporter._activity, self.seconds)
        return TableEvaluator(lambda _: 0.5).evaluate(candidate)


def searched(space, folder, clock, paper, *, trials, epochs, seconds):
    reporter = TerminalReporter(console_on(paper), clock=clock, tick_seconds=None)
    search(
        space,
        evaluator=SlowEvaluator(clock, reporter, epochs, seconds),
        controller="random",
        trials=trials,
        executor=InlineExecutor(),
        out=folder,
        reporters=(reporter,),
    )
    return [line for line in paper.lines if ": epoch" in line]


def test_the_epochs_of_a_long_trial_are_said_in_a_file(small_space, tmp_path, clock, paper):
    said = searched(small_space, tmp_path, clock, paper, trials=2, epochs=5, seconds=20)
    assert said[:4] == [
        "trial 0: epoch 1 of 5 (10 s)",
        "trial 0: epoch 2 of 5 (40 s)",
        "trial 0: epoch 4 of 5 (1 min 10 s)",
        "trial 0: epoch 5 of 5 (1 min 40 s)",
    ]
    gaps = [b - a for a, b in itertools.pairwise(paper.times)]
    assert max(gaps) <= EVERY_SECONDS + SILENT_SECONDS


def test_a_search_of_quick_trials_prints_what_it_did_before(small_space, tmp_path, clock, paper):
    assert searched(small_space, tmp_path, clock, paper, trials=30, epochs=2, seconds=3) == []


def test_trials_of_middling_length_do_not_double_the_lines(small_space, tmp_path, clock, paper):
    said = searched(small_space, tmp_path, clock, paper, trials=30, epochs=2, seconds=6)
    assert len(said) <= 30 * 12 / EVERY_SECONDS + 1


class Recording:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.told = []

    def on_start(self, start):
        self.told.append(start)

    def on_trial(self, report):
        self.told.append(report.number)

    def on_event(self, kind, message):
        self.told.append((kind, message))

    def on_progress(self, progress):
        self.told.append(progress)

    def on_end(self, end):
        self.told.append(end)


def run(space, folder, *reporters, table=lambda _: 0.5, evaluator=None, executor=None):
    return search(
        space,
        evaluator=evaluator or TableEvaluator(table),
        controller="random",
        trials=2,
        executor=executor or InlineExecutor(),
        out=folder,
        reporters=reporters,
    )


class Speaking:
    """Says what it is asked to, then measures."""

    fingerprint = "speaking"

    def __init__(self, *texts):
        self.texts = texts

    def prepare(self):
        pass

    def evaluate(self, candidate):
        for text in self.texts:
            candidate.progress(text)
        return TableEvaluator(lambda _: 0.5).evaluate(candidate)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("epoch 1\nof 5", "epoch 1 of 5"),
        ("x" * 1000, "x" * 120),
        (0.25, "0.25"),
        ("\x1b[2J wiped", "[2J wiped"),
        ("", ""),
    ],
)
def test_whatever_an_evaluator_says_becomes_one_short_line(small_space, tmp_path, said, told):
    watching = Recording()
    run(small_space, tmp_path, watching, evaluator=Speaking(said))
    assert Progress(text=told, trial=0) in watching.told


def test_a_reporter_that_breaks_at_progress_is_named_and_ends_neither_trial_nor_search(small_space, tmp_path):
    class Broken(Recording):
        def on_progress(self, progress):
            if progress.text == "halfway":
                raise ZeroDivisionError("the reporter's")

    study = run(small_space, tmp_path, Broken(), evaluator=Speaking("halfway", "done"))
    assert study.ending == "trials"
    assert len(study.completed) == len(study.trials)
    ((_, kind, message),) = study.events
    assert kind == "reporter_failed"
    assert "on_progress of Broken failed" in message


def test_a_training_says_each_epoch_and_steps_of_long_ones(clock):
    said = []
    announce = EpochProgress(said.append, steps=8, per_epoch=4, clock=clock)
    for step in range(8):
        announce(step)
        clock.now += 4 if step < 4 else 0.1
    assert said == ["epoch 1 of 2", "epoch 1 of 2, step 3 of 4", "epoch 2 of 2"]


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (4, 1), (5, 2), (10, 3)])
def test_a_part_of_an_epoch_counts_as_one(clock, steps, epochs):
    said = []
    announce = EpochProgress(said.append, steps=steps, per_epoch=4, clock=clock)
    for step in range(steps):
        announce(step)
    assert said[-1] == f"epoch {epochs} of {epochs}"


def test_nothing_is_said_after_the_last_line(small_space, tmp_path, clock, paper):
    searched(small_space, tmp_path, clock, paper, trials=1, epochs=1, seconds=1)
    before = paper.lines
    reporter = TerminalReporter(console_on(paper), clock=clock, tick_seconds=None)
    run(small_space, tmp_path / "b", reporter)
    printed = len(paper.lines) - len(before)
    clock.now += 100
    reporter.on_progress(Progress(text="ending Ray's processes"))
    assert len(paper.lines) - len(before) == printed
