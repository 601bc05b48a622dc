"""Injures real searches at random moments, continues them, and looks with SQLite for what was lost.

    python benchmarks/faults.py --n 1000 --seed 0
    python benchmarks/faults.py --n 50 --only disk      # kinds with this in their name; a regular expression

Each search is injured several times, continued after each time with the same command, and looked at: every
trial that was reported is in the journal once and unchanged, and in the end the journal is that of the same
search without injuries, but for times; so are the weights on disk. No attempt is made twice, no process and
no file is left over. Injuries of the journal itself are repaired with `nas verify --repair`: what they cost
must be named. Kinds that need root or strace are left out where these are not there.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from fault_checks import deaths, processes
from fault_files import FILE_KINDS
from fault_kinds import KINDS, Kind
from fault_ray import RAY_KINDS
from fault_round import Round
from fault_search import Case

CONTROLLERS = ("evolution", "random", "reinforce")
PER_ROUND = {
    "plain": 6,
    "full disk": 4,
    "user": 4,
    "damage": 3,
    "candidates": 8,
    "ray": 8,
    "ray candidate": 8,
}
"""Injuries of one search, by their place."""


def plan(kinds: Sequence[Kind], count: int, rng: Random) -> list[list[Kind]]:
    """So many injuries, in shares by weight, as lists of those that one search gets."""
    total = sum(kind.weight for kind in kinds)
    shares = [count * kind.weight / total for kind in kinds]
    numbers = [math.floor(share) for share in shares]
    for place in sorted(range(len(kinds)), key=lambda i: numbers[i] - shares[i])[: count - sum(numbers)]:
        numbers[place] += 1
    places = defaultdict(list)
    for kind, number in zip(kinds, numbers, strict=True):
        places[kind.place] += [kind] * number
    rounds = []
    for place, chosen in places.items():
        rng.shuffle(chosen)
        size = PER_ROUND.get(place, 1)
        rounds += [chosen[start : start + size] for start in range(0, len(chosen), size)]
    rng.shuffle(rounds)
    return rounds


@contextmanager
def round_in(root: Path, place: str, rng: Random) -> Iterator[Round]:
    """A search that is about to begin, in a folder of its own."""
    (root / "tmp").mkdir()
    (root / "disk").mkdir()
    if place == "full disk":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(root / "disk")], check=True)
    case = Case(
        folder=str(root / "disk" / "study"),
        ledger=str(root / "ledger"),
        seed=rng.randrange(8),
        controller=rng.choice(CONTROLLERS),
        is_user=place == "user",
    )
    if place.startswith("ray"):
        case = replace(case, executor="ray", width=2, trials=40, nap_ms=300.0, on_ray_loss="restart")
    before, os.environ["TMPDIR"] = os.environ.get("TMPDIR", ""), str(root / "tmp")
    tempfile.tempdir = None
    try:
        yield Round(root=root, rng=rng, case=case, share=2 / PER_ROUND.get(place, 1))
    finally:
        for process in processes(case.ledger):  # of a search that this program did not see to its end
            process.kill()
        os.environ["TMPDIR"] = before or "/tmp"
        tempfile.tempdir = None
        if place == "full disk":
            subprocess.run(["umount", "-l", str(root / "disk")], check=True)


def injure(one: Round, kinds: Sequence[Kind]) -> list[Kind]:
    """Injures a search, and continues it to its end; returns the kinds that found it over already."""
    left = list(kinds)
    while left and deaths(one.folder) < 2:  # a third would make the candidate under way infeasible
        one.kind = left[0].name
        if not left[0].injure(one):
            break
        one.injuries[one.kind] += 1
        one.look()
        left.pop(0)
    one.finish()
    return left


@dataclass(slots=True)
class Tally:
    """What a run has done and found so far, by kind."""

    injuries: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    named: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, one: Round) -> None:
        """Counts a search that has ended, and prints what it lost."""
        self.injuries += one.injuries
        for words in one.losses:
            self.losses[words.partition(":")[0]] += 1
            print(f"LOST in {one.root.name} ({one.case.controller}): {words}", flush=True)
        for kind, what, cost in one.named:
            self.named.setdefault((kind, what), []).append(cost)


def run(kinds: Sequence[Kind], count: int, seed: int, *, keep: Path | None) -> int:
    """Injures searches so often, and prints what was lost; returns how much."""
    rounds = plan(kinds, count, Random(seed))
    tally, began, number = Tally(), time.monotonic(), 0
    try:
        while rounds and number < 4 * count:
            chosen = rounds.pop(0)
            root = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-{number}-"))
            root.chmod(0o755)
            with round_in(root, chosen[0].place, Random(f"{seed} {number}")) as one:
                left = injure(one, chosen)
                if one.losses and keep is not None:
                    shutil.copytree(root, keep / root.name)
            shutil.rmtree(root)
            tally.add(one)
            rounds += [left] if left else []
            number += 1
            if number % 10 == 0:
                done = sum(tally.injuries.values())
                print(f"{done} injuries, {time.monotonic() - began:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("stopped")
    report(kinds, tally)
    print(f"{number} searches, {time.monotonic() - began:.0f} s")
    return sum(tally.losses.values())


def report(kinds: Sequence[Kind], tally: Tally) -> None:
    """Prints the table by kind."""
    print(f"\n{'kind':<52} {'injuries':>8} {'losses':>7}  cost, named")
    for kind in kinds:
        costs = [
            f"{sum(counts)} {what} in {len(counts)} injuries"
            for (name, what), counts in sorted(tally.named.items())
            if name == kind.name
        ]
        counts = f"{tally.injuries[kind.name]:>8} {tally.losses[kind.name]:>7}"
        print(f"{kind.name:<52} {counts}  {'; '.join(costs)}".rstrip())
    print(f"{'all':<52} {sum(tally.injuries.values()):>8} {sum(tally.losses.values()):>7}")


def possible() -> tuple[Kind, ...]:
    """The kinds that this machine can do; says which it cannot."""
    is_root, has_strace = os.geteuid() == 0, shutil.which("strace") is not None
    missing = {
        "full disk": is_root,
        "driver killed by the kernel for memory": is_root,
        "Ray: memory until a worker is killed": is_root,
        "Ray: /dev/shm small": is_root,
        "slow disk": has_strace,
        "disk that fails (ENOSPC, EIO, EDQUOT)": has_strace,
    }
    everything = (*KINDS, *FILE_KINDS, *RAY_KINDS)
    left_out = [k for k in everything if not (missing.get(k.place, True) and missing.get(k.name, True))]
    for kind in left_out:
        print(f"left out, for want of root or strace: {kind.name}")
    return tuple(kind for kind in everything if kind not in left_out)


def main() -> None:
    """Reads the command line and injures."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000, help="injuries")
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments")
    parser.add_argument("--only", default="", help="kinds whose name has this regular expression")
    parser.add_argument("--keep", type=Path, help="a folder for searches that lost something")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # prints what was done so far
    kinds = [kind for kind in possible() if re.search(arguments.only, kind.name)]
    with tempfile.TemporaryDirectory(prefix="fr-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder  # short, as Ray's sockets must be
        lost = run(kinds, arguments.n, arguments.seed, keep=arguments.keep)
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
