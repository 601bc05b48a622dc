import pickle
import signal

import numpy as np
import pytest
import torch

from nas.data.loading import from_arrays
from nas.training.precision import (
    BUDGET_SECONDS,
    PrecisionChoice,
    bf16_units_of,
    choose_precision,
    compare_precisions,
    cpu_bf16_units,
)
from nas.training.proxy import ProxyEvaluator
from nas.training.recipe import Recipe
from nas.trial import Candidate, Job

CPU = torch.device("cpu")
LINES = "processor\t: 0\nvendor_id\t: {}\n{}\t\t: {}\n"


class Machine:
    """Steps that take fixed seconds of a clock of its own; the first of each takes more."""

    def __init__(self, *, float32, bfloat16, first=(0.0, 0.0)):
        self.now, self.steps = 0.0, []
        self._seconds = {False: float32, True: bfloat16}
        self._first = dict(zip((False, True), first, strict=True))

    def step(self, is_bf16):
        self.now += self._seconds[is_bf16] + (self._first[is_bf16] if is_bf16 not in self.steps else 0.0)
        self.steps.append(is_bf16)

    def choose(self):
        return compare_precisions(self.step, clock=lambda: self.now)


@pytest.mark.parametrize(
    ("key", "flags", "units"),
    [
        ("flags", "fpu avx avx2 fma", ""),
        ("flags", "fpu avx2 avx512f avx512_vnni", ""),
        ("flags", "fpu avx512_bf16", "avx512_bf16"),
        ("flags", "amx_bf16 amx_tile avx512_bf16", "amx_bf16, avx512_bf16"),
        ("flags", "amx_int8 amx_tile", ""),
        ("Features", "fp asimd evtstrm aes", ""),
        ("Features", "fp asimd i8mm bf16", "bf16"),
        ("Features", "fp sve svebf16", "svebf16"),
        ("model name", "avx512_bf16", ""),
    ],
)
def test_bfloat16_units_are_read_from_the_processors_flags(key, flags, units):
    assert bf16_units_of(LINES.format("some", key, flags)) == units


@pytest.mark.parametrize("text", ["", "flags", "garbage\x00\n::\n"])
def test_a_processor_that_says_nothing_has_no_units(text):
    assert bf16_units_of(text) == ""


def test_a_processor_without_units_gets_float32_without_any_timing(monkeypatch):
    monkeypatch.setattr("nas.training.precision.cpu_bf16_units", lambda: "")
    monkeypatch.setattr("nas.training.precision.make_step", None)  # a step could not even be made
    choice = choose_precision.__wrapped__(CPU)
    assert choice == PrecisionChoice(precision="float32", reason="has no bfloat16 units")


def test_an_unknown_system_without_torchs_word_has_no_units(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)  # as in older versions of torch
    assert cpu_bf16_units() == ""


def test_torch_is_asked_where_there_is_no_list_of_flags(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert cpu_bf16_units() == "avx512_bf16"


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(0.03, 0.01, "bfloat16"), (0.03, 0.02, "bfloat16"), (0.03, 0.022, "float32"), (0.03, 0.09, "float32")],
)
def test_bfloat16_is_chosen_where_it_is_at_least_one_and_a_half_times_as_fast(float32, bfloat16, chosen):
    assert Machine(float32=float32, bfloat16=bfloat16).choose().precision == chosen


def test_the_first_step_of_each_is_warm_up():
    assert Machine(float32=0.03, bfloat16=0.01, first=(0.0, 0.3)).choose().precision == "bfloat16"
    assert Machine(float32=0.01, bfloat16=0.03, first=(0.3, 0.0)).choose().precision == "float32"


def test_one_slower_step_in_bfloat16_ends_the_timing():
    machine = Machine(float32=0.01, bfloat16=0.1)
    machine.choose()
    assert machine.steps == [False, True, False, True]


@pytest.mark.parametrize("float32", [0.001, 0.05, 0.2, 0.4, 0.9])
@pytest.mark.parametrize("factor", [0.1, 0.5, 0.6, 1.0])
def test_steps_of_even_length_take_no_more_than_the_budget(float32, factor):
    machine = Machine(float32=float32, bfloat16=factor * float32)
    machine.choose()
    assert machine.now <= BUDGET_SECONDS


def test_a_machine_on_which_a_step_takes_long_is_left_alone_after_it():
    machine = Machine(float32=20.0, bfloat16=200.0)
    assert machine.choose().precision == "float32"
    assert machine.steps == [False]


def test_bfloat16_ten_times_slower_costs_one_step():
    machine = Machine(float32=0.06, bfloat16=0.6)
    assert machine.choose().precision == "float32"
    assert machine.steps.count(True) == 1


def test_ctrl_c_ends_the_timing_between_two_steps():
    steps = []

    def step(is_bf16):
        steps.append(is_bf16)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        compare_precisions(step)
    assert len(steps) == 1


def test_this_machine_has_an_answer_and_a_reason():
    choice = choose_precision(CPU)
    assert choice.precision in ("float32", "bfloat16")
    assert choice.reason


def evaluator_of(precision="auto"):
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8)
    recipe = Recipe(epochs=1.0, warmup_epochs=0.0, batch_size=8, precision=precision)
    return ProxyEvaluator(from_arrays(images, np.arange(64) % 4), recipe, device="cpu")


def precision_of(evaluator, space):
    candidate = Candidate(
        job=Job(trial=0, attempt=1, tokens=(0,) * len(space.cardinalities), seed=0),
        network=space.decode((0,) * len(space.cardinalities)),
    )
    metrics = evaluator.evaluate(candidate).metrics
    return next(metric.environment for metric in metrics if metric.name == "train_seconds").split(", ")[2]


@pytest.fixture
def grey_space():
    from search_spaces import small

    return small(resolution=8, in_channels=1, num_classes=4)


def answering(monkeypatch, precision):
    choice = PrecisionChoice(precision=precision, reason="said the test")
    monkeypatch.setattr("nas.training.training.choose_precision", lambda _: choice)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_worker_gets_the_precision_and_does_not_measure_again(monkeypatch, grey_space, precision):
    evaluator = evaluator_of()
    answering(monkeypatch, precision)
    evaluator.resolve_precision("cpu", threads=1)
    monkeypatch.setattr("nas.training.training.choose_precision", None)  # asking would fail
    worker = pickle.loads(pickle.dumps(evaluator))
    worker.prepare()
    assert precision_of(worker, grey_space) == precision


def test_a_worker_on_another_machine_asks_for_itself(monkeypatch, grey_space):
    evaluator = evaluator_of()
    answering(monkeypatch, "bfloat16")
    evaluator.resolve_precision("cpu", threads=1)
    monkeypatch.setattr("platform.node", lambda: "another-machine")
    answering(monkeypatch, "float32")
    evaluator.prepare()
    assert precision_of(evaluator, grey_space) == "float32"


def test_what_auto_means_here_changes_no_fingerprint(monkeypatch):
    evaluator = evaluator_of()
    before = evaluator.fingerprint, evaluator.recipe.fingerprint
    answering(monkeypatch, "bfloat16")
    evaluator.resolve_precision("cpu", threads=1)
    evaluator.prepare()
    assert (evaluator.fingerprint, evaluator.recipe.fingerprint) == before
    assert evaluator.recipe.precision == "auto"


def test_a_precision_that_was_asked_for_is_never_timed(monkeypatch):
    monkeypatch.setattr("nas.training.training.choose_precision", None)
    evaluator = evaluator_of("float32")
    evaluator.resolve_precision("cpu", threads=1)
    evaluator.prepare()
    assert evaluator.recipe.precision == "float32"
