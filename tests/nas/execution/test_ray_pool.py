"""Workers that die, are missing and come back, on a scripted cluster with a clock of its own."""

import heapq
import itertools
from types import SimpleNamespace

import pytest

from nas.errors import ExecutorError
from nas.execution.ray_actor import Memory, Prepared
from nas.execution.ray_cluster import DEATHS_AT_START, await_ready
from nas.execution.ray_pool import FAILURES, WorkerPool
from nas.execution.ray_slot import Limits
from nas.trial import Cause, Job, Result, Status


class RayError(Exception):
    pass


class OutOfMemoryError(RayError):
    pass


class Ref:
    """A promise of the scripted cluster."""

    def __init__(self):
        self.is_there = False
        self.value = None

    def fill(self, value):
        if not self.is_there:
            self.is_there, self.value = True, value


class Actor:
    """A worker of the scripted cluster: it is prepared once a node has room for it."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.node = None
        self.is_dead = False
        self.jobs_done = 0
        self.greeting = Ref()
        self.open = [self.greeting]
        self.begin = SimpleNamespace(remote=lambda: self._asked(0.001, self._memory))
        self.work = SimpleNamespace(remote=self._work)

    def _memory(self):
        grown = self.jobs_done * self.cluster.leak
        return Memory(
            free=self.cluster.free,
            kills=self.cluster.kills,
            held=(1 << 30) + grown,
            files=self.jobs_done * self.cluster.file_leak,
        )

    def _work(self, job, _weights, _board):
        self.cluster.begun.append((job.trial, job.attempt, self.node))
        self.jobs_done += 1
        self.cluster.jobs[self] = job
        self.cluster.after(self.cluster.job_seconds / 2, lambda: self.cluster.use_memory(self))
        self.cluster.after(self.cluster.job_seconds, lambda: self.cluster.jobs.pop(self, None))
        is_broken = self.jobs_done == self.cluster.breaks_at
        status = Status.LOST if is_broken else Status.COMPLETED
        return self._asked(self.cluster.job_seconds, lambda: (Result(job=job, status=status), self._memory()))

    def _asked(self, seconds, answer):
        ref = Ref()
        self.open.append(ref)
        if self.is_dead:
            self.cluster.after(self.cluster.notice_seconds, lambda: ref.fill(RayError("the actor died")))
        else:
            self.cluster.after(seconds, lambda: None if self.is_dead else ref.fill(answer()))
        return ref

    def die(self, error=None, after=0.0):
        self.is_dead = True
        for ref in self.open:
            self.cluster.after(after, lambda ref=ref: ref.fill(error or RayError("the actor died")))


class Cluster:
    """Nodes with room for so many workers, in place of Ray; its time passes while somebody waits."""

    exceptions = SimpleNamespace(RayError=RayError, OutOfMemoryError=OutOfMemoryError)

    def __init__(self, **nodes):
        self.nodes = dict(nodes)
        self.now = 0.0
        self.job_seconds = 10.0
        self.notice_seconds = 12.0
        self.problem = ""
        self.large = {}
        self.room = 10
        self.free = 0.9
        self.kills = 0
        self.is_rays = True
        self.leak = 0
        self.file_leak = 0.0
        self.breaks_at = None
        self.begun = []
        self.actors = []
        self.jobs = {}
        self._order = itertools.count()
        self._events = []

    def after(self, seconds, action):
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def pass_until(self, moment):
        while self._events and self._events[0][0] <= moment:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = max(self.now, moment)

    def spawn(self):
        actor = Actor(self)
        self.actors.append(actor)
        self.after(0.0, self._place)
        return actor, actor.greeting

    def _place(self):
        for actor in self.actors:
            if actor.node is None and not actor.is_dead:
                free = (name for name, room in self.nodes.items() if len(self.on(name)) < room)
                actor.node = next(free, None)
                if actor.node is not None:
                    self.after(3.0, lambda actor=actor: self._prepared(actor))

    def _prepared(self, actor):
        if not actor.is_dead:
            actor.greeting.fill(Prepared(problem=self.problem, node=actor.node))

    def on(self, name):
        return [actor for actor in self.actors if actor.node == name and not actor.is_dead]

    def use_memory(self, actor):
        """Ends a worker in the middle of its job where the jobs of its node need too much memory."""
        if actor.is_dead:
            return
        together = [self.jobs[one] for one in self.on(actor.node) if one in self.jobs]
        if sum(self.large.get(job.trial, 1) for job in together) > self.room:
            self.kills += not self.is_rays
            actor.die(OutOfMemoryError("memory ran out") if self.is_rays else None)
            self.after(0.0, self._place)

    def lose(self, name):
        """A node dies; Ray takes a while to notice."""
        del self.nodes[name]
        for actor in self.on(name):
            actor.die(after=self.notice_seconds)

    def join(self, name, room):
        self.nodes[name] = room
        self._place()

    def kill(self, actor):
        actor.die()
        self.after(0.0, self._place)

    def get(self, ref, timeout=None):  # noqa: ARG002
        assert ref.is_there
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def wait(self, refs, num_returns=1, timeout=None):
        until = self.now + timeout
        while sum(ref.is_there for ref in refs) < num_returns and self._events and self.now < until:
            self.pass_until(min(until, self._events[0][0]))
        if sum(ref.is_there for ref in refs) < num_returns:
            self.now = max(self.now, until)
        return [ref for ref in refs if ref.is_there], [ref for ref in refs if not ref.is_there]


def pool_on(cluster, size, *, trial_seconds=None, told=None):
    return WorkerPool(
        cluster,
        cluster.spawn,
        size=size,
        limits=Limits(trial_seconds=trial_seconds, start_seconds=180.0, recycle_after=200),
        kills_on=lambda node: cluster.kills if node in cluster.nodes else None,
        tell=(lambda _: None) if told is None else told.append,
        clock=lambda: cluster.now,
        sleep=lambda seconds: cluster.pass_until(cluster.now + seconds),
    )


def make_job(trial, attempt=1):
    return Job(trial=trial, attempt=attempt, tokens=(0,), seed=trial)


def work_off(pool, cluster, trials, *, at=(), seconds=20_000.0):
    """Runs trials as the loop does, three attempts each; returns the final results by trial."""
    waiting, events = [make_job(trial) for trial in range(trials)], sorted(at, key=lambda pair: pair[0])
    done = {}
    while len(done) < trials and cluster.now < seconds:
        while events and events[0][0] <= cluster.now:
            events.pop(0)[1]()
        while waiting and len(pool.jobs) < pool.available:
            pool.submit(waiting.pop(0), None)
        for result in pool.wait(1.0):
            if result.status is Status.LOST and result.job.attempt < 3:
                waiting.insert(0, make_job(result.job.trial, result.job.attempt + 1))
            else:
                done[result.job.trial] = result
    return done


def events_of(told):
    return [(progress.event, progress.text) for progress in told if progress.event]


def test_a_node_that_dies_for_good_loses_no_candidate():
    cluster, told = Cluster(a=2, b=2), []
    pool = pool_on(cluster, 4, told=told)
    done = work_off(pool, cluster, 60, at=[(25.0, lambda: cluster.lose("b"))])
    assert [done[trial].status for trial in range(60)] == [Status.COMPLETED] * 60
    assert max(attempt for _, attempt, _ in cluster.begun) == 2
    assert len([1 for _, attempt, _ in cluster.begun if attempt == 2]) == 2
    assert [kind for kind, _ in events_of(told)] == ["workers_missing"]
    assert pool.available == 2


def test_a_node_that_dies_while_its_workers_are_idle_costs_no_attempt():
    cluster = Cluster(a=2, b=2)
    pool = pool_on(cluster, 4)
    assert len(work_off(pool, cluster, 4)) == 4
    cluster.pass_until(cluster.now + 5.0)
    cluster.lose("b")
    done = work_off(pool, cluster, 20)
    assert {result.job.attempt for result in done.values()} == {1}
    assert {result.status for result in done.values()} == {Status.COMPLETED}


def test_nodes_are_taken_as_they_come():
    cluster, told = Cluster(a=1, b=3), []
    pool = pool_on(cluster, 4, told=told)
    later = [(25.0, lambda: cluster.lose("b")), (900.0, lambda: cluster.join("c", 3))]
    done = work_off(pool, cluster, 200, at=later)
    assert len(done) == 200
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    assert {node for _, _, node in cluster.begun} == {"a", "b", "c"}
    assert [kind for kind, _ in events_of(told)] == ["workers_missing", "workers_back"]
    assert pool.available == 4


def test_a_search_waits_for_a_node_when_the_last_one_is_gone():
    cluster, told = Cluster(a=2), []
    pool = pool_on(cluster, 2, told=told)
    later = [(25.0, lambda: cluster.lose("a")), (5_000.0, lambda: cluster.join("b", 2))]
    done = work_off(pool, cluster, 10, at=later)
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    assert max(result.job.attempt for result in done.values()) == 2
    assert events_of(told)[0][0] == "workers_missing"
    assert cluster.now > 5_000.0


def test_a_worker_without_a_place_is_asked_for_ever_more_rarely():
    cluster = Cluster(a=1)
    pool = pool_on(cluster, 2)
    cluster.job_seconds = 150.0
    work_off(pool, cluster, 130)
    assert cluster.now > 19_000.0
    assert len(cluster.actors) <= 2 + 8


def test_a_worker_that_dies_while_it_is_prepared_is_tried_again_with_growing_pauses_and_said_once():
    cluster, told = Cluster(a=1, b=1), []
    pool = pool_on(cluster, 2, told=told)
    work_off(pool, cluster, 4)
    cluster.pass_until(cluster.now + 5.0)
    cluster.on("b")[0].die()
    cluster.problem = "a worker could not be prepared: its disk is full"
    done = work_off(pool, cluster, 100)
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    assert [kind for kind, _ in events_of(told)].count("worker_failed") == 2  # idle, and its disk
    assert 8 <= len(cluster.actors) <= 15
    cluster.problem = ""
    work_off(pool, cluster, 100, seconds=cluster.now + 1_000)
    assert pool.available == 2


def test_workers_that_can_never_be_prepared_end_the_search_and_say_why():
    cluster = Cluster(a=2)
    pool = pool_on(cluster, 2)
    work_off(pool, cluster, 2)
    cluster.pass_until(cluster.now + 5.0)
    cluster.problem = "a worker could not be prepared: its disk is full"
    for actor in cluster.on("a"):
        actor.die()
    with pytest.raises(ExecutorError, match=r"its disk is full.*start again to continue"):
        work_off(pool, cluster, 2)
    assert len(cluster.actors) == 2 + 2 * (FAILURES - 1)


def test_a_candidate_that_ends_its_workers_is_lost_after_three_attempts_that_began():
    cluster = Cluster(a=1)
    pool = pool_on(cluster, 1)
    cluster.after(5.0, lambda: cluster.on("a")[0].die())
    cluster.after(15.0, lambda: cluster.on("a")[0].die())
    cluster.after(25.0, lambda: cluster.on("a")[0].die())
    done = work_off(pool, cluster, 2)
    assert (done[0].status, done[0].cause, done[0].job.attempt) == (Status.LOST, Cause.WORKER_DIED, 3)
    assert done[1].status is Status.COMPLETED


@pytest.mark.parametrize(
    ("leak", "file_leak", "words"),
    [(400 << 20, 0.0, "grew from 1.4 to 3.0 GiB in 5 trials"), (0, 0.1, "holds 50% of the files")],
)
def test_a_worker_that_keeps_what_it_no_longer_needs_is_replaced_between_jobs_and_said_once(
    leak, file_leak, words
):
    cluster, told = Cluster(a=2), []
    cluster.leak, cluster.file_leak = leak, file_leak
    done = work_off(pool_on(cluster, 2, told=told), cluster, 40)
    assert {(result.status, result.job.attempt) for result in done.values()} == {(Status.COMPLETED, 1)}
    assert {actor.jobs_done for actor in cluster.actors} == {5}
    [(kind, text)] = events_of(told)
    assert kind == "worker_recycled"
    assert words in text


def test_a_worker_that_says_it_can_run_nothing_more_is_replaced_at_once():
    cluster = Cluster(a=1)
    cluster.breaks_at = 3
    done = work_off(pool_on(cluster, 1), cluster, 6)
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    assert [trial for trial, attempt, _ in cluster.begun if attempt == 2] == [2, 4]
    assert [actor.jobs_done for actor in cluster.actors] == [3, 3, 2]


def test_a_worker_that_does_not_grow_is_kept():
    cluster = Cluster(a=2)
    cluster.leak = 1 << 20
    work_off(pool_on(cluster, 2), cluster, 200)
    assert len(cluster.actors) == 2


def test_the_time_of_a_job_does_not_run_while_it_waits_for_a_worker():
    cluster = Cluster(a=1)
    pool = pool_on(cluster, 1, trial_seconds=11.0)
    work_off(pool, cluster, 1)
    cluster.pass_until(cluster.now + 5.0)
    cluster.lose("a")
    cluster.after(400.0, lambda: cluster.join("b", 1))
    done = work_off(pool, cluster, 2)
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    cluster.job_seconds = 12.0
    assert work_off(pool, cluster, 1)[0].cause is Cause.TIMEOUT


def await_all(cluster, deaths):
    """Starts two workers, of which the first dies so often; returns how many are late, and all starts."""
    actors = [cluster.spawn()[0] for _ in range(2)]
    actors[0].die()

    def restart(place):
        nonlocal deaths
        deaths -= 1
        actor, greeting = cluster.spawn()
        if deaths > 0:
            actor.die()
        assert place == 0
        return greeting

    greetings = [actor.greeting for actor in actors]
    return await_ready(cluster, greetings, restart, seconds=60.0, say=lambda _: None)


def test_a_worker_that_dies_while_it_is_prepared_at_the_start_is_started_again():
    cluster = Cluster(a=3)
    assert await_all(cluster, DEATHS_AT_START - 1) == 0
    assert len(cluster.actors) == 2 + DEATHS_AT_START - 1


def test_a_worker_that_dies_again_and_again_at_the_start_is_said():
    with pytest.raises(ExecutorError, match=f"died {DEATHS_AT_START} times while it was prepared"):
        await_all(Cluster(a=3), DEATHS_AT_START)


@pytest.mark.parametrize("is_rays", [True, False])
def test_a_candidate_that_needs_too_much_memory_alone_is_infeasible(is_rays):
    cluster = Cluster(a=3)
    cluster.large, cluster.is_rays = {4: 11}, is_rays
    done = work_off(pool_on(cluster, 3), cluster, 12)
    assert (done[4].status, done[4].cause) == (Status.INFEASIBLE, Cause.OUT_OF_MEMORY)
    assert "alone on the node with 90% of the memory free" in done[4].message
    assert {done[trial].status for trial in range(12) if trial != 4} == {Status.COMPLETED}


@pytest.mark.parametrize("is_rays", [True, False])
def test_a_candidate_that_fits_alone_is_no_victim_of_its_neighbours(is_rays):
    cluster = Cluster(a=3, b=1)
    cluster.large, cluster.is_rays = {2: 9, 4: 9, 5: 9}, is_rays
    done = work_off(pool_on(cluster, 4), cluster, 12)
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    assert max(attempt for _, attempt, _ in cluster.begun) > 1


def test_what_runs_alone_has_a_node_for_itself_while_the_others_work_on():
    cluster = Cluster(a=3, b=1)
    pool = pool_on(cluster, 4)
    pool._alone.add(4)
    together = set()
    begin = pool._begin

    def watched(slot):
        begin(slot)
        together.update(
            (slot.job[0].trial, one.job[0].trial)
            for one in pool.slots
            if one is not slot and one.answer is not None and one.node == slot.node
        )

    pool._begin = watched
    assert len(work_off(pool, cluster, 20)) == 20
    assert together
    assert not [pair for pair in together if 4 in pair]
    assert cluster.now < 100.0


def test_a_machine_that_is_full_of_others_makes_no_candidate_infeasible():
    cluster = Cluster(a=1)
    cluster.large, cluster.free = {1: 11}, 0.2
    done = work_off(pool_on(cluster, 1), cluster, 3)
    assert (done[1].status, done[1].cause, done[1].job.attempt) == (Status.LOST, Cause.OUT_OF_MEMORY, 3)
    assert done[2].status is Status.COMPLETED


def test_ray_that_dies_while_workers_are_prepared_is_said():
    cluster = Cluster()
    greeting = cluster.spawn()[1]
    with pytest.raises(ExecutorError, match="the head of Ray died while workers were prepared"):
        await_ready(
            cluster, [greeting], lambda _: None, seconds=9, say=lambda _: None, loss=lambda: "the head of Ray"
        )


def test_a_node_that_dies_near_the_end_of_a_jobs_time_is_not_taken_for_a_slow_candidate():
    cluster = Cluster(a=1, b=1)
    done = work_off(
        pool_on(cluster, 2, trial_seconds=11.0), cluster, 8, at=[(16.0, lambda: cluster.lose("b"))]
    )
    assert {result.status for result in done.values()} == {Status.COMPLETED}
    assert sum(result.job.attempt for result in done.values()) == 8 + 1
