"""Searches are followed in MLflow (a server on this machine) and W&B (offline), and read back from there."""

from __future__ import annotations

import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.cli.main import parse
from nas.config.readers import read_mlflow, read_wandb
from nas.config.request import given_options
from nas.config.resuming import resumed
from nas.config.services import service_reporters
from nas.config.settings import Settings
from nas.errors import UsageError
from nas.report import sending
from nas.report.mlflow_reporter import MOST_KEY, STUDY_TAG, _Mlflow, _name
from nas.report.run_facts import RunEnd, RunFacts
from nas.report.run_log import Number, Step
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, cost

SPACE = SearchSpace(
    Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(
            Stage(
                op=MBConv(kernel_size=choice(3, 5, 7, name="a=b|c"), expand_ratio=choice(3, 6, name="é")),
                channels=choice(8, 16, 24, name="channels"),
                repeats=choice(1, 2, 3, 4, name="repeats"),
            ),
        ),
        head=Head(channels=32),
        resolution=16,
        num_classes=10,
    ),
    name="tiny",
)


def measured(candidate: nas.Candidate) -> dict[str, float]:
    if candidate.job.trial % 4 == 3:
        raise nas.InfeasibleError(nas.Cause.DIVERGED, "the loss is not a number")
    macs = cost(candidate.network).macs
    return {"accuracy": 0.9 - 0.5 * math.exp(-macs / 1e6), "odd/name%": macs / 3e5}


def run(out: Path, trials: int, reporters: Sequence[nas.Reporter] = (), delay: float = 0.0) -> nas.Study:
    def slowly(candidate: nas.Candidate) -> dict[str, float]:
        time.sleep(delay)
        return measured(candidate)

    return nas.search(
        SPACE,
        evaluator=nas.TableEvaluator(slowly, noise=0.01, name="test"),
        controller="reinforce",
        target_macs=1e6,
        trials=trials,
        executor="inline",
        out=out,
        reporters=reporters,
    )


def rows(study: nas.Study) -> list[object]:
    return [(trial.tokens, trial.reward, trial.status, trial.seed) for trial in study.trials]


class Scripted:
    """A service that does what it is told: fails, hangs, or takes what comes."""

    def __init__(self, failures: int = 0, hang_seconds: float = 0.0) -> None:
        self.failures = failures
        self.hang_seconds = hang_seconds
        self.steps: list[int] = []
        self.calls: list[str] = []

    def _do(self, what: str) -> None:
        self.calls.append(what)
        time.sleep(self.hang_seconds)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the server is gone")

    def open(self, facts: RunFacts) -> None:  # noqa: ARG002 - the protocol's
        self._do("open")

    def send(self, steps: Sequence[sending.Timed]) -> None:
        self._do("send")
        self.steps += [timed.step.number for timed in steps]

    def end(self, end: object) -> None:  # noqa: ARG002
        self._do("end")

    def add(self, files: Sequence[Path], numbers: object) -> None:  # noqa: ARG002
        self._do("add")


class Following:
    """A reporter with a scripted service."""

    def __init__(self, service: Scripted, closing_seconds: float = 5.0) -> None:
        self.sending = sending.Sending("scripted", service, closing_seconds=closing_seconds)
        self.on_start = self.sending.begin
        self.on_trial = self.sending.trial
        self.on_end = self.sending.end

    def on_event(self, kind: str, message: str) -> None:  # noqa: ARG002
        self.sending.count(kind)

    def on_progress(self, progress: nas.Progress) -> None:
        pass


def test_steps_that_a_server_did_not_take_are_sent_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "RETRY_SECONDS", 0.01)
    service = Scripted(failures=2)
    study = run(tmp_path, 8, [Following(service)], delay=0.02)
    assert sorted(set(service.steps)) == list(range(1, 9))
    assert service.calls[-1] == "end"
    assert [kind for _, kind, _ in study.events].count("reporter_failed") <= 1


def test_dead_server_is_one_event_and_leaves_the_journal_as_it_is_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "RETRY_SECONDS", 0.01)
    study = run(tmp_path / "a", 8, [Following(Scripted(failures=10**9))], delay=0.02)
    (event,) = study.events
    assert event[1] == "reporter_failed"
    assert "the server is gone" in event[2]
    assert rows(study) == rows(run(tmp_path / "b", 8))


def test_server_that_hangs_holds_up_no_trial_and_the_end_for_a_bounded_time(tmp_path: Path) -> None:
    service = Scripted(hang_seconds=60)
    began = time.monotonic()
    study = run(tmp_path, 8, [Following(service, closing_seconds=0.3)])
    assert time.monotonic() - began < 30
    (event,) = study.events
    assert "9 steps were not sent" in event[2]
    assert "0 s" in event[2]


def test_more_steps_than_are_kept_are_counted_as_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MOST_WAITING", 3)
    study = run(tmp_path, 8, [Following(Scripted(hang_seconds=60), closing_seconds=0.1)])
    assert "9 steps were not sent" in study.events[0][2]


@pytest.mark.parametrize(
    ("reporter", "module", "field"),
    [
        (lambda: nas.WandbReporter("p"), "wandb", "wandb"),
        (lambda: nas.MlflowReporter("x"), "mlflow", "mlflow"),
    ],
)
def test_missing_package_is_named_with_its_extra_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any, module: str, field: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'mnas\[{module}\]'") as caught:
        run(tmp_path / "a", 3, [reporter()])
    assert caught.value.field == field
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("project", ["", " ", "a/b", 3])
def test_project_that_is_no_name_is_refused(project: Any) -> None:
    with pytest.raises(UsageError) as caught:
        nas.WandbReporter(project)
    assert caught.value.field == "wandb"


@pytest.mark.parametrize("text", ["", "a/", "/b", "a/b/c"])
def test_option_wandb_takes_a_project_with_or_without_entity(text: str) -> None:
    assert (read_wandb("a/b"), read_wandb("b"), read_wandb("none")) == ("a/b", "b", "")
    with pytest.raises(UsageError):
        read_wandb(text)


@pytest.mark.parametrize(
    "text", ["", "http://me:secret@host:5000", "postgresql://me:secret@host/db", "http://["]
)
def test_option_mlflow_takes_no_password(text: str) -> None:
    assert (read_mlflow("sqlite:///m.db"), read_mlflow("none")) == ("sqlite:///m.db", "")
    with pytest.raises(UsageError) as caught:
        read_mlflow(text)
    assert "secret" not in str(caught.value)


def test_experiment_without_mlflow_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        service_reporters(Settings(mlflow_experiment="a"))
    assert caught.value.field == "mlflow_experiment"
    assert service_reporters(Settings(mlflow="", mlflow_experiment="a")) == ()


def test_resume_may_change_where_a_search_is_followed_and_stop_it(tmp_path: Path) -> None:
    recipe = nas.Recipe().to_json()
    before = Settings(
        data="mnist", space="mnasnet", wandb="flowers", mlflow="http://localhost:5000", recipe=recipe
    )
    assert resumed(before, {}, tmp_path) == before
    given = given_options(parse(["resume", "s", "--wandb", "none", "--mlflow", "http://other:5000"]))
    now = resumed(before, given, tmp_path)
    assert (now.wandb, now.mlflow) == ("", "http://other:5000")
    assert [type(one) for one in service_reporters(now)] == [nas.MlflowReporter]
    assert Settings.from_dict(now.to_dict(), tmp_path) == now


def test_names_that_differ_stay_apart_in_mlflow_and_are_short_enough() -> None:
    names = ["a/b=c", "a/b_c", "a/b.c", "a/..", "a//b", "x" * 300, "x" * 299 + "y"]
    taken = [_name(name) for name in names]
    assert len(set(taken)) == len(names)
    assert max(map(len, taken)) <= MOST_KEY
    assert taken[0] == "a/b c"


def test_two_studies_of_equal_settings_have_keys_of_their_own(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", 2), run(tmp_path / "b", 2)
    assert one.identity == other.identity
    assert RunFacts.of(one).key != RunFacts.of(other).key
    assert RunFacts.of(one).key == RunFacts.of(run(tmp_path / "a", 3)).key


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """An MLflow server on this machine that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/m.db"]
        command += ["--artifacts-destination", str(self.folder / "files")]
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("the server did not start")

    def stop(self) -> None:
        """Kills it; safe to call twice."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("mlflow"))
    one.start()
    yield one
    one.stop()


def runs_of(uri: str, study: nas.Study, experiment: str = "mnas") -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    key = RunFacts.of(study).key
    return client, client.search_runs([found.experiment_id], filter_string=f"tags.`{STUDY_TAG}` = '{key}'")


def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("WANDB_DIR", raising=False)


def records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file, which after 7 bytes is a log in LevelDB's format."""
    from wandb.proto import wandb_internal_pb2

    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


@pytest.mark.slow
def test_mlflow_has_every_number_of_a_search_that_was_resumed_in_one_run(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    offline(monkeypatch, tmp_path)  # both at once
    for trials in (9, 14):
        both = [nas.MlflowReporter(server.uri), nas.WandbReporter("flowers", entity="me")]
        study = run(tmp_path / "s", trials, both)
    assert capfd.readouterr() == ("", "")
    assert not study.events
    check_mlflow(server, study)
    check_wandb(study)


def check_mlflow(server: Server, study: nas.Study) -> None:
    client, (one,) = runs_of(server.uri, study)
    assert one.info.status == "FINISHED"
    assert one.info.run_name == "s"
    assert one.data.params["space"] == "tiny"
    assert one.data.params["seed"] == "0"
    assert one.data.params["versions/mnas"]
    assert one.data.metrics["winner/number"] == study.best.number

    def curve(name: str) -> dict[int, float]:
        return {point.step: point.value for point in client.get_metric_history(one.info.run_id, name)}

    names = ("trial/number", "trial/macs", "trial/reward", "trial/odd_name")
    numbers, macs, rewards, odd = map(curve, names)
    assert sorted(numbers) == list(range(1, 15))
    for step, number in numbers.items():
        trial = study.trial(int(number))
        assert macs[step] == trial.macs
        assert rewards.get(step) == trial.reward
        assert odd.get(step) == trial.metric("odd/name%")
    assert curve("policy/a b_c/5").keys() == {1, 9, 10, 14}
    assert {"best", "pareto", "study", "winner"} == {
        file.path for file in client.list_artifacts(one.info.run_id)
    }


def check_wandb(study: nas.Study) -> None:
    files = sorted((study.folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2  # `wandb sync` makes one run of them, as they have one id
    key = RunFacts.of(study).key
    found: dict[int, dict[str, str]] = {}
    for file in files:
        assert file.name == f"run-{key}.wandb"
        for record in records(file):
            if record.WhichOneof("record_type") == "run":
                assert (record.run.project, record.run.entity, record.run.run_id) == ("flowers", "me", key)
                assert any(item.key == "objective" for item in record.run.config.update)
            if record.WhichOneof("record_type") == "history":
                items = {
                    "/".join(item.nested_key) or item.key: item.value_json for item in record.history.item
                }
                found[record.history.step.num] = items
    for step in range(1, 15):
        trial = study.trial(int(float(found[step]["trial/number"])))
        assert float(found[step]["trial/macs"]) == trial.macs
        if trial.reward is not None:
            assert float(found[step]["trial/reward"]) == trial.reward


@pytest.mark.slow
def test_mlflow_takes_thousands_of_numbers_odd_values_and_long_texts_sent_twice(
    tmp_path: Path, server: Server
) -> None:
    study = run(tmp_path / "s", 1)
    facts = replace(RunFacts.of(study), config={"long": "x" * 7000, "nested": {"a=b": [1, 2], "empty": ""}})
    values = (math.nan, math.inf, -math.inf, 1e-300, 0.1)
    numbers = tuple(Number(name=f"n/{place}", value=values[place % 5]) for place in range(25))
    steps = [sending.Timed(step=Step(number=step, entries=numbers), seconds=1000.0) for step in range(1, 101)]
    service = _Mlflow(server.uri, "many")
    for _ in range(2):
        service.open(facts)
        service.send(steps)
        service.end(RunEnd(ending="interrupted", winner={"winner/number": 3.0}, architecture=""))
    client, (one,) = runs_of(server.uri, study, "many")
    assert one.info.status == "KILLED"
    assert len(one.data.params["long"]) <= 6000
    assert one.data.params["nested/a b"] == "[1, 2]"
    assert "nested/empty" not in one.data.params
    points = client.get_metric_history(one.info.run_id, "n/4")
    assert [(point.step, point.value) for point in points] == [(step, 0.1) for step in range(1, 101)]
    assert math.isnan(one.data.metrics["n/0"])
    assert one.data.metrics["n/1"] > 1e308


@pytest.mark.slow
def test_wandb_without_a_login_is_an_error_that_asks_nothing(
    tmp_path: Path,
) -> None:
    program = (
        "import nas\ntry:\n    nas.WandbReporter('p').check_ready()\n"
        "except nas.NasError as error:\n    print(error.field, error)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("wandb ")
    assert "wandb login" in done.stdout


@pytest.mark.slow
def test_search_completes_with_an_equal_journal_when_its_server_is_killed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(sending, "RETRY_SECONDS", 0.5)

    class Kills(nas.MlflowReporter):
        def on_trial(self, report: Any) -> None:
            if report.counts.done == 6:
                server.stop()
            super().on_trial(report)

    study = run(tmp_path / "a", 30, [Kills(server.uri, experiment="killed")], delay=0.15)
    assert [kind for _, kind, _ in study.events] == ["reporter_failed"]
    assert rows(study) == rows(run(tmp_path / "b", 30))
    with pytest.raises(UsageError) as caught:  # nothing listens now
        run(tmp_path / "c", 3, [nas.MlflowReporter(server.uri)])
    assert caught.value.field == "mlflow"
    assert not (tmp_path / "c").exists()
