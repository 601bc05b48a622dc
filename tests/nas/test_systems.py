"""Nothing that only POSIX systems have is needed to import, describe, search inline or read a study."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STUDY = Path(__file__).parent / "golden" / "version-3" / "defaults"

HIDE = """
import asyncio, multiprocessing, os, pathlib, platform, shutil, signal, socket, sqlite3, subprocess, sys
import tempfile
import filelock, numpy, psutil, rich.console, scipy.stats
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
class Hider:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"there is no {name} on this system")
sys.meta_path.insert(0, Hider())
for name in MODULES:
    sys.modules.pop(name, None)
for module, names in {
    signal: "SIGALRM SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 alarm pause setitimer sigwait",
    os: "chown fork getegid geteuid getgid getloadavg getpgid getuid killpg mkfifo nice pread pwrite "
        "sched_getaffinity setsid statvfs sysconf uname wait waitid",
}.items():
    for name in names.split():
        delattr(module, name)
# Elsewhere it asks another function of the system.
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40)
"""


def run(code, *arguments):
    command = [sys.executable, "-c", HIDE + code, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(5):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path


def test_import_and_help_need_no_posix_module():
    code = "import nas\nfrom nas.cli.main import main\nsys.exit(main(['--help']))"
    assert "nas search" in run(code)


def test_a_study_is_read_without_posix_modules():
    code = "import nas\nstudy = nas.open_study(sys.argv[1])\nprint(len(study.trials), study.best.number)"
    trials, _ = run(code, STUDY).split()
    assert trials == "6"


def test_images_are_read_without_posix_modules(folder):
    code = "import nas\nprint(nas.load_data(sys.argv[1]))"
    assert "2 classes, 1 x 8 x 8" in run(code, folder / "images")


def test_a_search_in_one_process_needs_no_posix_module(tmp_path):
    code = """
import nas
from search_spaces import small
study = nas.search(small(resolution=8), evaluator=nas.TableEvaluator(lambda _: 0.5), executor="inline",
                   controller="random", trials=3, out=sys.argv[1])
print(study.ending, len(study.trials))
"""
    for _ in range(2):  # the second continues it
        assert run(code, tmp_path).split() == ["trials", "3"]
