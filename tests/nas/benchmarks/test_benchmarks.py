"""Tables to search on without training: what they hold, and what is said of files that are not theirs."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import nas
from nas.benchmarks import (
    Benchmark,
    digits_evaluator,
    digits_recipe,
    digits_space,
    load_accel_nasbench,
    load_digits_bench,
    load_nas_bench_macro,
)
from nas.benchmarks.digits import TABLE, digits_candidate, digits_tokens
from nas.devices import pinned_threads
from nas.errors import BenchmarkError, UsageError
from nas.training.proxy import ProxyEvaluator
from nas.trial import Candidate, InfeasibleError, Job
from search_spaces import SearchSpace, efficientnet, nas_bench_macro

ROOT = Path(__file__).resolve().parents[3]
PACKAGED = Path(nas.__file__).parent / "benchmarks" / TABLE


def shared_file(name):
    folder = os.environ.get("MNAS_DATA", "")
    path = Path(folder) / name
    if not folder or not path.is_file():
        pytest.skip(f"set MNAS_DATA to the folder that holds {name}")
    return path


def tiny(space, **changed):
    """Two candidates of the small space, three trainings each."""
    tokens = np.array([[0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]])
    given = {
        "name": "tiny",
        "space": space,
        "tokens": tokens,
        "accuracies": np.array([[0.5, 0.6, 0.7], [0.1, 0.2, 0.6]]),
        "noise": 0.05,
        "source": "made up",
        "is_exhaustive": False,
    }
    return Benchmark(**{**given, **changed})


def measured(benchmark, evaluator, row, seed):
    tokens = tuple(benchmark.tokens[row].tolist())
    job = Job(trial=0, attempt=1, tokens=tokens, seed=seed)
    candidate = Candidate(job=job, network=benchmark.space.decode(tokens))
    (accuracy,) = [m.value for m in evaluator.evaluate(candidate).metrics if m.name == "accuracy"]
    return accuracy


def test_the_lookup_gives_mean_accuracies_by_tokens(small_space):
    benchmark = tiny(small_space)
    assert benchmark.mean_accuracies == pytest.approx([0.6, 0.3])
    assert benchmark.lookup() == pytest.approx({(0,) * 8: 0.6, (1, *(0,) * 7): 0.3})


def test_the_arrays_are_copies_that_cannot_be_written_to(small_space):
    accuracies = np.array([[0.5], [0.6]])
    benchmark = tiny(small_space, accuracies=accuracies)
    accuracies[:] = 0
    assert benchmark.accuracies.tolist() == [[0.5], [0.6]]
    with pytest.raises(ValueError, match="read-only"):
        benchmark.tokens[0, 0] = 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"tokens": np.zeros((2, 7), int)},
            r"has 8 decisions, but the tokens of tiny have the shape \(2, 7\)",
        ),
        ({"tokens": np.zeros((2, 8))}, "`tokens` of tiny must be a table of int64"),
        ({"tokens": np.zeros((2, 8), int)}, "must have one row, but tiny has .* more than once"),
        ({"tokens": np.full((2, 8), 7)}, r"`0 <= token < 2` must hold for .*, but row 0 of tiny has 7"),
        ({"accuracies": np.array([0.5, 0.6])}, "`accuracies` of tiny must be a table of float64"),
        ({"accuracies": np.zeros((2, 0))}, r"with rows and columns, but got float64 of shape \(2, 0\)"),
        ({"accuracies": np.array([[0.5]])}, "there are 2 candidates and 1 rows"),
        ({"accuracies": np.array([[0.5], [65.0]])}, "row 1 of tiny has 65.0: accuracies are fractions"),
        ({"accuracies": np.array([[0.5], [np.nan]])}, "row 1 of tiny has nan"),
        ({"noise": -0.1}, r"`0 <= noise < 1` must hold for tiny, but got noise=-0\.1"),
        ({"noise": float("nan")}, "but got noise=nan"),
        ({"is_exhaustive": True}, "must have all 1,296 candidates, but tiny has 2"),
    ],
)
def test_an_invalid_table_is_refused_with_the_rule_and_the_value(small_space, changed, message):
    with pytest.raises(BenchmarkError, match=message):
        tiny(small_space, **changed)


def test_the_evaluator_has_the_noise_of_one_training_unless_another_is_asked_for(small_space):
    benchmark = tiny(small_space)

    def draws(evaluator):
        return np.array([measured(benchmark, evaluator, 1, seed) for seed in range(1500)])

    for evaluator, noise in ((benchmark.evaluator(), 0.05), (benchmark.evaluator(0.02), 0.02)):
        values = draws(evaluator)
        # 1,500 draws: four standard errors are 7 % of the deviation, and a tenth of it for the mean.
        assert values.std() == pytest.approx(noise, rel=0.08)
        assert values.mean() == pytest.approx(0.3, abs=0.1 * noise)
    assert set(draws(benchmark.evaluator(0))) == {benchmark.mean_accuracies[1]}


def test_a_candidate_that_is_not_in_the_table_is_infeasible(small_space):
    tokens = (1,) * 8
    candidate = Candidate(
        job=Job(trial=0, attempt=1, tokens=tokens, seed=0), network=small_space.decode(tokens)
    )
    with pytest.raises(InfeasibleError, match="the table has no candidate"):
        tiny(small_space).evaluator().evaluate(candidate)


def test_a_search_of_another_space_than_the_table_s_is_refused(small_space, tmp_path):
    other = SearchSpace(replace(small_space.template, resolution=64), name="larger images")
    with pytest.raises(
        UsageError, match=r"of the space small .*, but the search is of larger images"
    ) as error:
        nas.search(other, evaluator=tiny(small_space).evaluator(), executor="inline", out=tmp_path / "study")
    assert error.value.field == "space"
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("noise", [-0.1, float("inf")])
def test_an_evaluator_with_impossible_noise_is_refused(small_space, noise):
    with pytest.raises(BenchmarkError, match="`noise >= 0` must hold, but got noise="):
        tiny(small_space).evaluator(noise)


def test_importing_the_benchmarks_loads_neither_torch_nor_ray():
    code = "import sys, nas.benchmarks; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)
    assert done.returncode == 0


def accel_rows(count=6):
    """Rows in the form of Accel-NASBench, of random candidates, the first one set aside."""
    space = efficientnet()
    tokens = space.sample_many(np.random.default_rng(0), count)
    costs = space.costs(tokens)
    rows = []
    for number, candidate in enumerate(tokens.tolist()):
        row = {"id": number}
        for i, stage in enumerate(space.decode(candidate).stages):
            row[f"block{i}_e"], row[f"block{i}_k"] = stage.op.expand_ratio, stage.op.kernel_size
            row[f"block{i}_l"], row[f"block{i}_se"] = stage.repeats, int(stage.op.se_ratio > 0)
        row |= {"macs": costs.macs[number], "params": costs.params[number]}
        rows.append(row | {"val_top1": 60 + number if number else ""})
    return tokens, rows


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rows_of_accel_nasbench_become_tokens_of_our_space(tmp_path):
    tokens, rows = accel_rows()
    benchmark = load_accel_nasbench(write_csv(tmp_path / "table.csv", rows))
    assert benchmark.tokens.tolist() == tokens[1:].tolist()
    assert benchmark.accuracies == pytest.approx(np.array([[0.61], [0.62], [0.63], [0.64], [0.65]]))
    assert benchmark.noise == 0.0027
    assert not benchmark.is_exhaustive


def without(name):
    return lambda rows: [{key: value for key, value in row.items() if key != name} for row in rows]


def with_cell(number, name, value):
    return lambda rows: [row | {name: value} if i == number else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("block3_se"), "must have the columns .* lacks 1 of them, block3_se for one"),
        (without("val_top1"), "lacks 1 of them, val_top1 for one"),
        (
            with_cell(2, "macs", 123),
            r"\d+ and \d+, but line 4 of .*table.csv has 123 and .*another, or damaged",
        ),
        (with_cell(0, "params", 7), "but line 2 of .* has .* and 7 "),
        (
            with_cell(1, "block2_k", 7),
            "`block3.kernel_size` must be one of 3, 5, but line 3 .* has block2_k=7",
        ),
        (with_cell(1, "block2_k", "wide"), "`block2_k` must be a number, but line 3 of .* has 'wide'"),
        (with_cell(1, "macs", "nan"), "`macs` must be a number, but line 3 of .* has 'nan'"),
        (with_cell(1, "val_top1", 101), r"has 1\.01: accuracies are fractions"),
        (lambda rows: [*rows, rows[1]], "must have one row, but accel_nasbench has"),
    ],
)
def test_another_or_damaged_file_is_not_read_as_accel_nasbench(tmp_path, spoil, message):
    path = write_csv(tmp_path / "table.csv", spoil(accel_rows()[1]))
    with pytest.raises(BenchmarkError, match=message):
        load_accel_nasbench(path)


def test_a_line_of_accel_nasbench_that_is_cut_short_is_not_taken_for_a_row_set_aside(tmp_path):
    path = write_csv(tmp_path / "table.csv", accel_rows()[1])
    path.write_text(path.read_text().rpartition(",")[0])
    with pytest.raises(BenchmarkError, match=r"`val_top1` must be a number, but line 7 of .* has None"):
        load_accel_nasbench(path)


@pytest.mark.parametrize("load", [load_accel_nasbench, load_nas_bench_macro])
def test_a_missing_or_binary_or_empty_file_is_said_to_be_so(tmp_path, load):
    binary, empty = tmp_path / "binary", tmp_path / "empty"
    binary.write_bytes(b"\xff\xfe\x00")
    empty.write_text("")
    for path in (tmp_path / "none", binary):
        with pytest.raises(BenchmarkError, match=r"cannot be read \(.*\): give the path of"):
            load(path)
    with pytest.raises(BenchmarkError, match="empty"):
        load(empty)


def test_accel_nasbench_has_4612_networks_with_accuracy():
    path = shared_file("accel_nasbench.csv")
    benchmark = load_accel_nasbench(path)
    assert benchmark.tokens.shape == (4612, 28)
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_top1"]]
    cells = zip(rows, benchmark.tokens, benchmark.mean_accuracies, strict=True)
    for row, tokens, accuracy in list(cells)[::50]:
        stages = benchmark.space.decode(tokens).stages
        assert [stage.repeats for stage in stages] == [int(row[f"block{i}_l"]) for i in range(7)]
        assert [stage.op.se_ratio for stage in stages] == [int(row[f"block{i}_se"]) / 4 for i in range(7)]
        assert accuracy == pytest.approx(float(row["val_top1"]) / 100)


def macro_table():
    """The whole table in NAS-Bench-Macro's form, with made-up accuracies."""
    space = nas_bench_macro()
    tokens = list(product(range(3), repeat=8))
    costs = space.costs(np.array(tokens))
    return {
        "".join(map(str, candidate)): {
            "test_acc": [80.0, 81.0, 82.0],
            "params": int(costs.params[row]),
            "flops": int(costs.macs[row]),
        }
        for row, candidate in enumerate(tokens)
    }


def test_rows_of_nas_bench_macro_are_ordered_by_tokens_and_their_noise_is_that_of_the_seeds(tmp_path):
    table = macro_table()
    table["00000001"]["test_acc"] = [90.0, 90.0, 93.0]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(dict(reversed(table.items()))))
    benchmark = load_nas_bench_macro(path)
    assert benchmark.tokens.tolist() == [list(map(int, key)) for key in table]
    assert benchmark.accuracies[1].tolist() == [0.9, 0.9, 0.93]
    assert benchmark.noise == pytest.approx(np.sqrt((6560 * 0.01**2 + 0.0003) / 6561))
    assert benchmark.is_exhaustive


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda table: table.pop("01010101"),
            "must have all 6,561 candidates, but nas_bench_macro has 6,560",
        ),
        (lambda table: table.update({"0101010": {}}), "must be 8 digits from 0 to 2, but one is '0101010'"),
        (lambda table: table["00000000"].update(flops=5), "but candidate 00000000 of .* has 5 and"),
        (lambda table: table["00000000"].pop("params"), "must have the numbers test_acc, flops and params"),
        (
            lambda table: table["00000000"].update(test_acc=[1.0]),
            "must have 3 values, but candidate 00000000",
        ),
    ],
)
def test_another_or_damaged_file_is_not_read_as_nas_bench_macro(tmp_path, spoil, message):
    table = macro_table()
    spoil(table)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    with pytest.raises(BenchmarkError, match=message):
        load_nas_bench_macro(path)


def test_nas_bench_macro_has_the_means_that_its_authors_give():
    path = shared_file("nas-bench-macro_cifar10.json")
    benchmark = load_nas_bench_macro(path)
    assert benchmark.accuracies.shape == (6561, 3)
    means = benchmark.lookup()
    for key, row in json.loads(path.read_text()).items():
        assert means[tuple(map(int, key))] == pytest.approx(row["mean_acc"] / 100, abs=1e-9)
    assert benchmark.noise == pytest.approx(0.0021, abs=5e-5)


def test_candidates_of_nas_bench_macro_that_are_one_network_have_equal_rows():
    benchmark = load_nas_bench_macro(shared_file("nas-bench-macro_cifar10.json"))
    rows = {
        (benchmark.space.digest(tokens), tuple(accuracies))
        for tokens, accuracies in zip(benchmark.tokens.tolist(), benchmark.accuracies.tolist(), strict=True)
    }
    assert len(rows) == len({digest for digest, _ in rows}) == 3969


def test_the_digits_table_has_every_network_of_its_space_once_with_three_seeds():
    benchmark = load_digits_bench()
    assert [tuple(row) for row in benchmark.tokens.tolist()] == list(digits_tokens())
    assert benchmark.is_exhaustive
    assert benchmark.accuracies.shape == (benchmark.space.size, 3)
    assert len({benchmark.space.digest(row) for row in benchmark.tokens.tolist()}) == benchmark.space.size


def test_candidates_of_the_digits_table_differ_by_at_least_twice_what_seeds_do():
    benchmark = load_digits_bench()
    assert benchmark.mean_accuracies.std(ddof=1) >= 2 * benchmark.noise
    assert benchmark.noise == pytest.approx(np.sqrt(benchmark.accuracies.var(axis=1, ddof=1).mean()))


def test_the_digits_table_says_the_command_and_the_evaluator_that_made_it():
    head = [line for line in PACKAGED.read_text().splitlines() if line.startswith("#")]
    assert "python benchmarks/train_digits_bench.py --seeds 3" in head[0]
    assert digits_evaluator().fingerprint in head[2]


@pytest.mark.slow
def test_no_two_cells_of_the_digits_table_share_a_seed():
    space = digits_space()
    cells = product(range(space.size), range(3))
    assert len({digits_candidate(space, row, seed).job.seed for row, seed in cells}) == 3 * space.size


def test_a_search_on_the_digits_table_is_a_search(tmp_path):
    benchmark = load_digits_bench()
    study = nas.search(
        benchmark.space,
        evaluator=benchmark.evaluator(0),
        controller="random",
        executor="inline",
        trials=10,
        out=tmp_path,
    )
    assert len(study.trials) == 10
    assert study.best.accuracy == benchmark.lookup()[study.best.tokens]


CELLS = ((253, 0), (437, 1), (389, 2))
"""Rows and seeds that are trained again, of middling candidates: seeds matter most for weak ones."""

TOLERANCE = 0.03
"""Half the rate or 92 steps move these cells by more. Three distances between seeds would have a mean of
0.012 with a deviation of 0.005, as middling candidates have a seed deviation of 0.011."""


def difference(recipe):
    """Mean over the cells of the distance between the accuracy of a training now and that of the table."""
    benchmark = load_digits_bench()
    evaluator = ProxyEvaluator(digits_evaluator().data, recipe, device="cpu")
    distances = []
    with pinned_threads(1):
        for row, seed in CELLS:
            found = evaluator.evaluate(digits_candidate(benchmark.space, row, seed)).metrics
            (accuracy,) = [metric.value for metric in found if metric.name == "accuracy"]
            distances.append(abs(accuracy - benchmark.accuracies[row, seed]))
    return np.mean(distances)


@pytest.mark.slow
def test_training_again_gives_the_accuracies_of_the_digits_table():
    # Equal on the machine that made the table; on another, rounding can make of a training another seed's.
    assert difference(digits_recipe()) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"learning_rate": 0.1}, {"epochs": 2.0, "warmup_epochs": 0.5}])
def test_another_recipe_does_not_give_the_accuracies_of_the_digits_table(changed):
    assert difference(replace(digits_recipe(), **changed)) > TOLERANCE


def program():
    spec = importlib.util.spec_from_file_location(
        "train_digits_bench", ROOT / "benchmarks/train_digits_bench.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_raw_file_of_the_program_loses_a_line_cut_short_and_refuses_another_recipe(tmp_path):
    read_raw, path = program().read_raw, tmp_path / "new" / "raw.csv"
    assert read_raw(path, "abc") == {}
    with path.open("a") as file:
        file.write("3,1,0.5,1.2\n3,2,0.")
    assert read_raw(path, "abc") == {(3, 1): (0.5, 1.2)}
    assert path.read_text().endswith("3,1,0.5,1.2\n")
    with pytest.raises(SystemExit, match="must be of the evaluator def, but begins otherwise"):
        read_raw(path, "def")


@pytest.mark.slow
def test_the_program_continues_where_it_was_ended_and_trains_what_the_table_has(tmp_path, monkeypatch):
    raw, table = tmp_path / "raw.csv", tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["", "--raw", str(raw), "--table", str(table), "--limit", "1"])
    with pinned_threads(1):
        assert [program().main(), program().main()] == [1, 1]
    assert not table.exists()
    lines = [line.split(",") for line in raw.read_text().splitlines()[2:]]
    assert len({(row, seed) for row, seed, _, _ in lines}) == 2
    accuracies = load_digits_bench().accuracies
    for row, seed, accuracy, _ in lines:
        assert float(accuracy) == pytest.approx(accuracies[int(row), int(seed)], abs=0.06)
