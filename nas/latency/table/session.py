"""Makes a latency table: which blocks and networks are measured, the session, and the fits on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.environment import describe_environment, judge_share, read_ticks, share_of_others
from nas.latency.passes import Pass, prepare_pass, prepare_reference
from nas.latency.session import (
    LEAST_CALLS,
    VISIT_SECONDS,
    WARMUP_CHUNK,
    Session,
    Timing,
    measure_together,
)
from nas.latency.table.correction import (
    Check,
    CheckedNetwork,
    Correction,
    fit_correction,
    predict_left_out,
)
from nas.latency.table.estimator import LEAST_BLOCKS, BlockEstimator, fit_estimator
from nas.latency.table.table import BlockLatency, LatencyTable, SpaceFacts, TableSession
from nas.trial import Say, say_nothing
from search_spaces import Network, SearchSpace, SpaceError, Stage
from search_spaces.blocks import Block, FoundBlocks, blocks_of, find_blocks
from search_spaces.ops import op_label
from search_spaces.part_sums import inference_parts

MOST_BLOCKS = 400
CHECKED = 24
ROUNDS = 20
MOST_DRAWS = 200
"""Random networks that are drawn for each one to be checked before the space is said to hold too few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """What is measured for a table.

    Attributes:
        space: The space.
        found: All its blocks.
        blocks: Those that are measured; the others are estimated from them.
        networks: Random networks that are measured whole, all different.
        seed: Of every draw.
    """

    space: SearchSpace
    found: FoundBlocks
    blocks: tuple[Block, ...]
    networks: tuple[Network, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What is known of the latency of one block or network.

    Attributes:
        latency_ms: Median.
        q1_ms: First quartile; None where one number is all that is known.
        q3_ms: Third quartile likewise.
        n: Samples.
        halves_ms: Medians of even and odd rounds; None likewise.
    """

    latency_ms: float
    q1_ms: float | None = None
    q3_ms: float | None = None
    n: int = 1
    halves_ms: tuple[float, float] | None = None

    @classmethod
    def of(cls, timing: Timing) -> Latency:
        """What a session says."""
        return cls(
            latency_ms=timing.median_ms,
            q1_ms=timing.q1_ms,
            q3_ms=timing.q3_ms,
            n=timing.n,
            halves_ms=timing.halves_ms if timing.n > 1 else None,
        )


def plan_table(
    space: SearchSpace, *, most_blocks: int = MOST_BLOCKS, check: int = CHECKED, seed: int = 0
) -> TablePlan:
    """Finds the blocks of a space, and draws what is measured.

    Args:
        space: The space.
        most_blocks: Blocks that are measured at most; of more, a sample in which every op of every stage has
            its share, and the rest is estimated.
        check: Random networks measured whole; fewer where the space holds fewer.
        seed: Of every draw.

    Raises:
        LatencyError: Blocks would have to be estimated from too few.
        SpaceError: No network of the space can be built.
    """
    found = find_blocks(space, seed=seed)
    blocks = choose_blocks(found.blocks, most_blocks, seed=seed)
    is_partial = len(blocks) < len(found.blocks)
    if is_partial and len(blocks) < LEAST_BLOCKS:
        raise LatencyError(
            f"the space {space.name!r} has {len(found.blocks):,} blocks, and at least {LEAST_BLOCKS} must be "
            f"measured to estimate the others, but got --most-blocks {most_blocks}: raise it"
        )
    networks = _draw_networks(space, check, seed)
    return TablePlan(space=space, found=found, blocks=blocks, networks=networks, seed=seed)


def choose_blocks(blocks: Sequence[Block], most: int, *, seed: int) -> tuple[Block, ...]:
    """Draws blocks so that every op of every stage has its share; keeps their order.

    Blocks alike in stage and op are drawn in turns: one of each kind, then a second of each, until there are
    enough.
    """
    if len(blocks) <= most:
        return tuple(blocks)
    rng = np.random.default_rng(seed)
    kinds: dict[tuple[str, str], list[int]] = {}
    for place, block in enumerate(blocks):
        made_of = block.part.made_of
        op = op_label(made_of.op) if isinstance(made_of, Stage) else block.words
        kinds.setdefault((block.stage, op), []).append(place)
    turns: list[tuple[int, float, int]] = []
    for places in kinds.values():
        shuffled = rng.permutation(places).tolist()
        turns += [(turn, float(rng.random()), place) for turn, place in enumerate(shuffled)]
    return tuple(blocks[place] for place in sorted(place for *_, place in sorted(turns)[:most]))


def measure_table(
    plan: TablePlan,
    settings: DeviceSettings,
    *,
    rounds: int = ROUNDS,
    notes: tuple[str, ...] = (),
    say: Say = say_nothing,
    progress: Say = say_nothing,
    on_round: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """Measures the blocks and networks of a plan in one measurement session, and makes the table of it.

    Args:
        plan: What is measured.
        settings: Where, and how.
        rounds: Samples of each.
        notes: What makes the session doubtful, to be kept with it.
        say: Told what begins, in words, with an estimate of the time before the session.
        progress: Told how many are prepared.
        on_round: Called with (rounds done, rounds) after each.

    Raises:
        LatencyError: The device is not there, or a block cannot run on it.
        SpaceError: A block cannot be built.
    """
    say(f"preparing {len(plan.blocks)} blocks and {len(plan.networks)} networks on {settings.text}")
    passes = prepare_passes(plan, settings, progress=progress)
    reference = prepare_reference(settings)
    seconds = estimate_seconds(passes.values(), rounds)
    say(f"measuring in {rounds} rounds, about {_words(seconds)}: leave the machine alone meanwhile")
    ticks = read_ticks()
    session = measure_together(passes, reference=reference, rounds=rounds, seed=plan.seed, on_round=on_round)
    if not settings.is_cuda:
        during = judge_share(share_of_others(ticks, read_ticks()), "CPU")
        notes = (*notes, *([f"{during.text} during the session"] if during.is_busy else ()))
    environment = describe_environment(settings)
    return table_of_session(
        plan,
        session,
        settings=settings,
        device_name=environment.device_name,
        environment=environment.text,
        notes=notes,
    )


def prepare_passes(
    plan: TablePlan, settings: DeviceSettings, *, progress: Say = say_nothing
) -> dict[str, Pass]:
    """Prepares a pass of every block by its key, and of every network by its digest."""
    from search_spaces.modules import build_part

    passes: dict[str, Pass] = {}
    for number, block in enumerate(plan.blocks, start=1):
        progress(f"preparing block {number} of {len(plan.blocks)}")
        module = build_part(block.part, seed=0)
        try:
            passes[block.key] = prepare_pass(module, settings, input_shape=block.in_shape)
        except LatencyError as error:
            raise LatencyError(f"{error} (block of {block.stage}: {block.words})") from error
    for number, network in enumerate(plan.networks, start=1):
        progress(f"preparing network {number} of {len(plan.networks)}")
        passes[network.digest] = prepare_pass(network, settings)
    return passes


def estimate_seconds(
    passes: Iterable[Pass],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Says about how long a session will take, from one call of each pass after another that warms it up."""
    total = 0.0
    for run in passes:
        run()
        started = clock()
        run()
        one = clock() - started
        total += 2 * WARMUP_CHUNK * one + rounds * (one + max(LEAST_CALLS * one, VISIT_SECONDS))
    return 1.1 * total  # a tenth for the reference


def table_of_session(
    plan: TablePlan,
    session: Session,
    *,
    settings: DeviceSettings,
    device_name: str,
    environment: str,
    notes: tuple[str, ...] = (),
) -> LatencyTable:
    """Makes the table of a session whose passes have the keys of blocks and the digests of networks."""
    latencies = {name: Latency.of(timing) for name, timing in session.timings.items()}
    keys = {block.key for block in plan.blocks}
    errors = [timing.repeat_error for name, timing in session.timings.items() if name in keys]
    unsettled = [name for name in session.unsettled if name in latencies]
    if unsettled:
        notes = (*notes, f"{len(unsettled)} of {len(latencies)} passes had not settled after their warm-up")
    facts = TableSession(
        rounds=session.rounds,
        seconds=session.seconds,
        drift=_finite(session.drift),
        block_repeat_error=_finite(statistics.fmean(errors)),
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
    table = make_table(plan, latencies, device_name=device_name, environment=environment)
    return replace(table, settings=settings, session=facts)


def make_table(
    plan: TablePlan, latencies: Mapping[str, Latency], *, device_name: str, environment: str
) -> LatencyTable:
    """Makes a table of latencies by block key and network digest, however they were measured.

    Blocks without a latency are estimated from the others; networks without one are left out of the fit.

    Raises:
        LatencyError: Blocks would have to be estimated from too few.
    """
    measured = [block for block in plan.found.blocks if block.key in latencies]
    times = [latencies[block.key].latency_ms for block in measured]
    estimator: BlockEstimator | None = None
    if len(measured) < len(plan.found.blocks) or not plan.found.is_complete:
        estimator = fit_estimator(measured, times, seed=plan.seed)
    table = LatencyTable(
        device_name=device_name,
        settings=None,
        environment=environment,
        space=SpaceFacts.of(plan.space),
        blocks=tuple(_entry(block, latencies, estimator) for block in plan.found.blocks),
        blocks_origin=plan.found.origin,
        is_complete=plan.found.is_complete,
        correction=Correction(),
        estimator=estimator,
    )
    networks = [network for network in plan.networks if network.digest in latencies]
    table = with_correction(table, networks, [latencies[network.digest] for network in networks])
    return replace(table, range=table.range_of(plan.space, seed=plan.seed))


def with_correction(
    table: LatencyTable, networks: Sequence[Network], latencies: Sequence[Latency]
) -> LatencyTable:
    """Fits the correction on whole networks, and states its error on each from fits that left it out."""
    if not networks:
        return table
    features = np.array([features_of(table, network) for network in networks])
    measured = np.array([one.latency_ms for one in latencies])
    predicted = predict_left_out(features, measured)
    checked = tuple(
        CheckedNetwork(
            digest=network.digest,
            macs=network_macs(network),
            latency_ms=one.latency_ms,
            halves_ms=one.halves_ms,
            predicted_ms=float(prediction),
        )
        for network, one, prediction in zip(networks, latencies, predicted, strict=True)
    )
    return replace(table, correction=fit_correction(features, measured), check=Check(networks=checked))


def features_of(table: LatencyTable, network: Network) -> tuple[float, ...]:
    """What a network's latency is fitted on: `nas.latency.table.correction.FEATURES`."""
    blocks = [block for part in inference_parts(network) for block in blocks_of(part)]
    return (
        1.0,
        sum(table.block_ms(block) for block in blocks),
        float(len(blocks)),
        sum(block.part.tally.params for block in blocks) / 1e6,
        sum(block.part.tally.activations for block in blocks) / 1e6,
    )


def network_macs(network: Network) -> int:
    """Multiply-adds of a network."""
    return sum(part.cost.macs for part in inference_parts(network))


def _entry(block: Block, latencies: Mapping[str, Latency], estimator: BlockEstimator | None) -> BlockLatency:
    known = latencies.get(block.key)
    if known is None:
        assert estimator is not None, "blocks that were not measured are estimated"
        known = Latency(latency_ms=estimator.estimate(block), n=0)
    return BlockLatency(
        key=block.key,
        stage=block.stage,
        words=block.words,
        in_shape=(block.in_shape.channels, block.in_shape.height, block.in_shape.width),
        macs=block.part.cost.macs,
        latency_ms=known.latency_ms,
        q1_ms=known.q1_ms,
        q3_ms=known.q3_ms,
        n=known.n,
    )


def _draw_networks(space: SearchSpace, count: int, seed: int) -> tuple[Network, ...]:
    rng = np.random.default_rng(seed)
    found: dict[str, Network] = {}
    for _ in range(MOST_DRAWS * count):
        if len(found) == count:
            break
        try:
            network = space.decode(space.sample(rng))
            found.setdefault(network.digest, network)
        except SpaceError:  # the combination breaks a law: it is no network
            continue
    return tuple(found.values())


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
