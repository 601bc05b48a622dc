import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.cli.main import COMMANDS, main, parse

ROOT = Path(__file__).resolve().parents[3]


def python(*words, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, timeout=120, **options
    )


def complaint(capsys, *words):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def test_help_loads_neither_torch_nor_ray():
    code = (
        "import sys\nfrom nas.cli.main import main\n"
        "try:\n    main(['search', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'matplotlib', 'torchvision'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "--target-macs" in done.stdout


def test_python_m_nas_lists_every_command():
    done = python("-m", "nas")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: nas {command}")
    assert "--json" in text


def test_an_unknown_command_is_answered_with_the_near_one(capsys):
    assert "no command 'serch': did you mean search?" in complaint(capsys, "serch")


def test_an_unknown_option_is_answered_with_the_near_one(capsys):
    text = complaint(capsys, "search", "--out", "a", "--target-mac", "3M")
    assert "knows no option --target-mac: did you mean --target-macs" in text


def test_an_unknown_value_is_answered_with_the_near_one_and_the_option(capsys):
    text = complaint(capsys, "search", "--out", "a", "--controller", "renforce")
    assert "--controller: there is no controller 'renforce': did you mean reinforce?" in text


def test_a_word_too_many_is_named(capsys):
    assert "knows no argument 'again'" in complaint(capsys, "show", "a", "again")


def test_an_option_is_never_abbreviated(capsys):
    assert "--trial" in complaint(capsys, "search", "--out", "a", "--trial", "3")


def test_an_option_that_only_a_new_search_takes_is_explained_to_a_resume(capsys):
    text = complaint(capsys, "resume", "a", "--epochs", "3")
    assert "a resume continues with the study's own --epochs" in text


def test_a_target_of_zero_is_refused(capsys):
    text = complaint(capsys, "search", "--out", "a", "--target-macs", "0")
    assert "--target-macs: a quantity must be greater than 0" in text


def test_options_are_read_in_their_units():
    arguments = parse(
        ["search", "--out", "a", "--target-latency", "5ms", "--max-memory", "2GiB", "--max-hours", "90min"]
    )
    assert arguments.target_latency_ms == 5.0
    assert arguments.max_memory_bytes == 2 * 1024**3
    assert arguments.max_hours == 1.5


def test_what_is_not_given_is_none_so_that_a_resume_can_tell():
    arguments = parse(["search", "--out", "a"])
    given = {name: value for name, value in vars(arguments).items() if value not in (None, [], False)}
    assert given == {"command": "search", "out": "a"}


def test_a_missing_option_is_said_without_listing_all_others():
    done = python("-m", "nas", "search")
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert len(done.stderr.splitlines()) <= 3


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_went_away_is_not_complained_of(form):
    command = [sys.executable, "-m", "nas", "profile", "--space", "mnasnet", "--resolution", "32", *form]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--samples", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode().splitlines()
        assert all(line.startswith("costing") for line in said)  # what goes on, on a slow machine
        assert process.wait(timeout=120) == 1


def assert_stopped(said):
    """One plain line after what was said of the progress."""
    assert said.splitlines()[-1] == "nas: stopped"
    assert "Traceback" not in said


INTERRUPTED = """
import importlib, os, signal, sys
from nas.cli.main import main

module, name, *words = sys.argv[1:]
place = importlib.import_module(module)
real = getattr(place, name)

def interrupted(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return real(*arguments, **options)

setattr(place, name, interrupted)
sys.exit(main(words))
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [("PIL.Image", "open"), ("nas.training.precision", "cpu_bf16_units"), ("ray", "init")],
    ids=["while images load", "while the precision is chosen", "while Ray starts"],
)
def test_ctrl_c_before_the_first_trial_ends_with_130_and_one_line(tmp_path, module, name):
    for number in range(40):
        path = tmp_path / "data" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number, dtype=np.uint8)).save(path)
    words = ["search", "--data", str(tmp_path / "data"), "--space", "small", "--batch-size", "8"]
    done = python("-c", INTERRUPTED, module, name, *words, "--workers", "1", "--out", str(tmp_path / "out"))
    assert done.returncode == 130
    assert_stopped(done.stderr)


def test_ctrl_c_outside_a_search_ends_with_130_and_one_line():
    program = (
        "import sys\nfrom nas.cli.main import main\nprint('ready', flush=True)\n"
        "sys.exit(main(['profile', '--space', 'mnasnet', '--samples', '100000']))"
    )
    # A process of its own: in this one a callback of the garbage collector may swallow the interrupt.
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert_stopped(process.stderr.read())
        assert process.wait(timeout=120) == 130


@pytest.mark.slow
def test_ctrl_c_during_a_search_ends_with_130_and_loses_no_finished_trial(tmp_path):
    out = tmp_path / "study"
    command = [sys.executable, "-m", "nas", "search", "--data", "mnist5k", "--space", "small"]
    command += ["--executor", "inline", "--epochs", "0.05", "--trials", "1000", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[   2/1000]"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=120) == 130
    assert f"continue with: nas resume {out}" in rest
    from nas.study.study import open_study

    study = open_study(out)
    assert study.ending == "interrupted"
    assert len(study.completed) >= 2
