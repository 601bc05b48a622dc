"""Several trainings at once on one device: in processes, with and without MPS, or in streams.

A daemon of MPS is started in a temporary folder with its own pipe and is stopped at the end; one that is
running already is left alone and not used.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from throughput_contenders import Running, Setting, cores, ours, proxy_network, synthetic

from nas.devices import synchronize
from nas.training.batches import ResidentBatches

START_SECONDS = 300.0
"""Longest wait for all processes to be ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What each of several processes trains: plain values, so that they cross to it.

    Attributes:
        pixels: Height and width of the images.
        width: Of the network.
        images: Number of synthetic images.
        batch_size: Images a step.
        device: Where.
        seconds: How long.
        processes: How many there are; each gets its share of the cores or of the GPU's memory.
    """

    pixels: int
    width: float
    images: int
    batch_size: int
    device: str
    seconds: float
    processes: int


def in_processes(task: Task, environment: dict[str, str] | None = None) -> float:
    """Images a second of all processes together, over the time in which all of them train.

    Raises:
        RuntimeError: A process failed; the message is its own.
    """
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(task.processes), context.Queue()
    before = {name: os.environ.get(name) for name in environment or {}}
    os.environ.update(environment or {})
    try:
        workers = [
            context.Process(target=_train_in_process, args=(task, barrier, answers), daemon=True)
            for _ in range(task.processes)
        ]
        for worker in workers:
            worker.start()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    found = [answers.get(timeout=START_SECONDS + 10 * task.seconds) for _ in workers]
    for worker in workers:
        worker.join()
    problems = [answer for answer in found if isinstance(answer, str)]
    if problems:
        raise RuntimeError(problems[0])
    return float(sum(found))


def in_streams(task: Task) -> float:
    """Images a second of several trainings that one process replays in turns, each in its stream.

    They share a random generator, so their dropout is not that of trainings alone: this is for time.
    """
    device = torch.device(task.device)
    setting = _setting(task)
    batches = ResidentBatches(setting.data, device)
    running: list[tuple[torch.cuda.Stream, Running]] = []
    for _ in range(task.processes):
        stream = torch.cuda.Stream(device)
        with torch.cuda.stream(stream):
            running.append((stream, ours(setting, batches, "auto")))

    def turn() -> None:
        for stream, training in running:
            with torch.cuda.stream(stream):
                training.step()

    return task.processes * task.batch_size * _turns_per_second(turn, task.seconds, device)


@contextmanager
def private_mps() -> Iterator[dict[str, str]]:
    """Starts a daemon of MPS with its own pipe; gives the environment of its clients.

    Raises:
        RuntimeError: There is no MPS here, or its daemon did not start.
    """
    program = shutil.which("nvidia-cuda-mps-control")
    if program is None:
        raise RuntimeError("there is no nvidia-cuda-mps-control here")
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        everything = {**os.environ, **environment}
        started = subprocess.run(
            [program, "-d"], env=everything, capture_output=True, text=True, timeout=60, check=False
        )
        if started.returncode:
            raise RuntimeError(f"the daemon of MPS did not start: {started.stderr.strip()[:200]}")
        try:
            yield environment
        finally:
            subprocess.run(
                [program],
                input="quit\n",
                env=everything,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )


def _train_in_process(task: Task, barrier: Any, answers: Any) -> None:
    try:
        device = torch.device(task.device)
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1 / task.processes, device)
        else:
            torch.set_num_threads(max(1, cores() // task.processes))
        setting = _setting(task)
        training = ours(setting, ResidentBatches(setting.data, device), "auto")
        barrier.wait(START_SECONDS)
        rate = task.batch_size * _turns_per_second(training.step, task.seconds, device)
        answers.put(rate)
    except Exception as error:
        barrier.abort()
        answers.put(f"{type(error).__name__}: {error}")


def _turns_per_second(turn: Any, seconds: float, device: torch.device) -> float:
    """Takes turns for a time, waiting for the device only every so often, and says how many a second."""
    synchronize(device)
    began, turns, chunk = time.perf_counter(), 0, 1
    while True:
        for _ in range(chunk):
            turn()
        synchronize(device)
        turns += chunk
        took = time.perf_counter() - began
        if took >= seconds:
            return turns / took
        chunk = max(1, int(0.25 * turns))


def _setting(task: Task) -> Setting:
    data = synthetic(task.pixels, task.images)
    return Setting(
        network=proxy_network(task.pixels, task.width),
        data=data,
        files=data,
        batch_size=task.batch_size,
        device=torch.device(task.device),
        workers=0,
    )
