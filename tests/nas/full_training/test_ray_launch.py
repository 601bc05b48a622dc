import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas.errors import ExecutorError, RecipeError
from nas.full_training.ranks import OneRank, share_of_batch, share_of_split
from nas.full_training.ray_launch import _RayLostError, _run, launch

pytestmark = pytest.mark.ray
needs_ray = pytest.mark.usefixtures("local_ray")

BATCH, STEPS, TESTED = 12, 8, 7


def images_of(numbers):
    """Images and labels that follow from their numbers alone."""
    images = [np.random.default_rng(int(number)).normal(size=(3, 8, 8)) for number in numbers]
    return torch.tensor(np.stack(images), dtype=torch.float32), torch.tensor(numbers % 5)


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def train(ranks, tell, *, folder, seed=0, dies_at=None):
    """Trains with a checkpoint every third step; a rank dies once where that is asked for."""
    module = make_network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    saved = folder / "checkpoint"
    first = 0
    if ranks.from_first("resume" if saved.exists() else ""):
        state = torch.load(saved)
        first = state["step"]
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
    wrapped = ranks.wrap(module)
    for step in range(first, STEPS):
        if (ranks.rank, step) == (1, dies_at) and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)
        numbers = np.random.default_rng((seed, step)).integers(1000, size=BATCH)
        images, labels = images_of(share_of_batch(numbers, ranks.rank, ranks.world))
        loss = functional.cross_entropy(wrapped(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tell((step, float(ranks.total(loss.detach())) / ranks.world))
        if ranks.is_first and step % 3 == 2:
            state = {
                "step": step + 1,
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(state, saved)
        ranks.barrier()
    share = share_of_split(TESTED, ranks.rank, ranks.world)
    images, labels = images_of(np.arange(TESTED)[share.start : share.stop])
    right = (module(images).argmax(1) == labels).sum()
    counts = ranks.total(torch.stack([right, torch.tensor(len(share))]))
    if ranks.is_first:
        torch.save(module.state_dict(), folder / "weights")
    tell(("tested", counts.tolist()))


@needs_ray
@pytest.mark.slow
def test_two_ranks_train_as_one_process_does_with_the_same_batches_though_one_dies(tmp_path):
    alone_folder, folder = tmp_path / "alone", tmp_path / "together"
    alone_folder.mkdir()
    folder.mkdir()
    alone, told, said = [], [], []
    train(OneRank(device=torch.device("cpu")), alone.append, folder=alone_folder)
    work = partial(train, folder=folder, dies_at=4)
    launch(work, workers=2, folder=folder, tell=told.append, say=said.append)

    assert [step for step, _ in told] == [0, 1, 2, 3, 3, 4, 5, 6, 7, "tested"]
    assert told[3] == told[4], "a step taken again must give the same loss to the bit"
    assert [loss for _, loss in told[:3] + told[4:-1]] == pytest.approx([x for _, x in alone[:-1]], abs=1e-5)
    assert told[-1] == alone[-1]
    assert told[-1][1][1] == TESTED
    weights = torch.load(folder / "weights")
    for name, value in torch.load(alone_folder / "weights").items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-4)
    assert said == [
        "starting 2 ranks",
        "a process died: rank 1 (ActorDiedError); continuing from the last checkpoint",
        "starting 2 ranks",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "died", "weights"]


def fail(ranks, tell, *, error):
    tell(ranks.rank)
    ranks.barrier()
    if ranks.rank == 1:
        raise error
    ranks.barrier()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "type_", "field", "message"),
    [
        (RecipeError("too large", field="batch_size"), RecipeError, "batch_size", "^too large$"),
        (ValueError("no such thing"), ExecutorError, "", "^rank 1 failed: ValueError: no such thing$"),
    ],
)
def test_what_a_rank_raises_ends_the_training_at_once(tmp_path, error, type_, field, message):
    told, said = [], []
    with pytest.raises(type_, match=message) as raised:
        launch(partial(fail, error=error), workers=2, folder=tmp_path, tell=told.append, say=said.append)
    assert raised.value.field == field
    assert told == [0]
    assert said == ["starting 2 ranks"]
    assert list(tmp_path.iterdir()) == []


def die(ranks, tell):
    tell(os.getpid())
    ranks.barrier()
    os._exit(1)


@needs_ray
@pytest.mark.slow
def test_ranks_that_die_more_often_than_is_allowed_are_an_error(tmp_path):
    told = []
    with pytest.raises(ExecutorError, match="`restarts <= 0` must hold, but a process died once more: rank"):
        launch(die, workers=2, folder=tmp_path, tell=told.append, restarts=0)
    assert len(told) == 1
    assert list(tmp_path.iterdir()) == []


def idle(ranks, tell):
    tell(os.getpid())
    while True:
        ranks.barrier()
        time.sleep(0.1)


def interrupt(_):
    raise KeyboardInterrupt


@needs_ray
@pytest.mark.slow
def test_what_interrupts_the_driver_ends_the_ranks_and_frees_what_they_held(tmp_path, local_ray):
    with pytest.raises(KeyboardInterrupt):
        launch(idle, workers=2, folder=tmp_path, tell=interrupt)
    deadline = time.monotonic() + 60
    while local_ray.available_resources().get("CPU", 0) < 4:
        assert time.monotonic() < deadline, local_ray.available_resources()
        time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []


def until_told(ranks, tell, *, folder):
    """Runs until it is to stop, as a training does that then writes a checkpoint."""
    tell("running")
    while not ranks.total(torch.tensor(int(ranks.is_stopping))):
        time.sleep(0.05)
    (folder / f"stopped-{ranks.rank}").touch()
    raise KeyboardInterrupt


@needs_ray
@pytest.mark.slow
def test_ranks_that_have_time_to_stop_end_by_themselves(tmp_path):
    said = []
    work = partial(until_told, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        launch(work, workers=2, folder=tmp_path, tell=interrupt, stop_seconds=60, say=said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped-0", "stopped-1"]
    assert said[-1] == "stopping after a checkpoint; a second Ctrl-C stops at once"


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 5}, r"5 workers with 1 CPU each were asked for, but there are 4 CPUs, room for 4"),
        ({"workers": 3, "cpus_per_worker": 2}, "3 workers with 2 CPUs each .* room for 2"),
        (
            {"workers": 3, "on_gpus": True},
            "3 workers with 1 CPU and 1 GPU each .* 4 CPUs, 2 GPUs, room for 2",
        ),
    ],
)
def test_more_ranks_than_there_is_room_for_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ExecutorError, match=message) as error:
        launch(idle, folder=tmp_path, tell=print, **options)
    assert error.value.field == "workers"


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "restarts": -1}])
def test_a_number_out_of_its_range_is_refused(tmp_path, options):
    with pytest.raises(ExecutorError) as error:
        launch(idle, folder=tmp_path, tell=print, **options)
    assert error.value.field == list(options)[-1]


DRIVER = """
import sys
from pathlib import Path
for name in sys.argv[3:]:
    sys.modules[name] = None
from nas.errors import ExecutorError
from nas.full_training.ray_launch import launch

def idle(ranks, tell):
    import time
    tell("running")
    while True:
        ranks.barrier()
        time.sleep(0.1)

try:
    launch(idle, workers=int(sys.argv[1]), folder=Path(sys.argv[2]), cpus_per_worker=0.5,
           tell=lambda text: print(text, flush=True), say=lambda text: print(text, flush=True))
except ExecutorError as error:
    print(error, error.field)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def start_driver(folder, *blocked, workers=2):
    root = Path(__file__).resolve().parents[3]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(workers), str(folder), *blocked],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONPATH": str(root)},
        start_new_session=True,
    )


class Gone:
    """A module like Ray that answers nothing, and must not be asked once it is dead."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self):
        self.waits = 0
        method = SimpleNamespace(remote=lambda *_: object())
        actor = SimpleNamespace(fit=method, read=method, failures=method)
        options = SimpleNamespace(remote=lambda: actor)
        self.remote = lambda _: SimpleNamespace(options=lambda **_: options)

    def wait(self, refs, timeout):  # noqa: ARG002
        self.waits += 1
        return [], refs

    def loss(self):
        return "the head of Ray" if self.waits > 3 else ""

    def kill(self, actor):
        raise AssertionError(actor)


def test_ray_that_dies_under_the_ranks_is_noticed_and_not_waited_for():
    ray = Gone()
    plan = SimpleNamespace(workers=2)
    with pytest.raises(_RayLostError, match="the head of Ray") as lost:
        _run(ray, [], plan, 3, lambda _: None, lambda _: None, ray.loss)
    assert lost.value.starts == 0


def test_a_missing_extra_is_said_with_the_command_that_installs_it(tmp_path):
    with start_driver(tmp_path, "pydantic", "pandas") as driver:
        said = driver.communicate(timeout=120)[0]
    assert "needs Ray Train, but pandas, pydantic cannot be imported: pip install 'mnas[train]'" in said


@pytest.mark.slow
def test_more_ranks_than_cores_are_refused_before_ray_starts(tmp_path):
    with start_driver(tmp_path, workers=10_000) as driver:
        said = driver.communicate(timeout=120)[0]
    assert said.startswith("10000 workers with 0.5 CPUs each were asked for")
    assert said.endswith("workers\n")


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(tmp_path):
    with start_driver(tmp_path) as driver:
        for line in driver.stdout:
            if line == "running\n":
                break
        started = psutil.Process(driver.pid).children(recursive=True)
        os.killpg(driver.pid, signal.SIGINT)
        rest = driver.stdout.read()
    assert rest == "ending Ray's processes\ninterrupted\n"
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
    assert list(tmp_path.iterdir()) == []
