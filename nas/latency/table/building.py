"""Makes a latency table: chooses the blocks and networks to measure, measures them, and fits on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.environment import Busyness
from nas.latency.measurement import DeviceSession, OnRound, measure_passes
from nas.latency.passes import Pass, prepare_pass
from nas.latency.session import LEAST_CALLS, VISIT_SECONDS, WARMUP_CHUNK, Timing
from nas.latency.table.estimator import LEAST_BLOCKS, BlockEstimator, fit_estimator
from nas.latency.table.prediction import Check, CheckedNetwork, Correction, fit_correction, predict_left_out
from nas.latency.table.table import BlockLatency, LatencyTable, SpaceFacts
from nas.trial import Say, say_nothing
from nas.values import counted
from search_spaces import Network, SearchSpace, SpaceError, Stage, cost
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
    if LEAST_BLOCKS > len(blocks) < len(found.blocks):
        raise LatencyError(
            f"the space {space.name!r} has {len(found.blocks):,} blocks, and at least {LEAST_BLOCKS} must be "
            f"measured to estimate the others, but got --most-blocks {most_blocks}: raise it",
            field="most_blocks",
        )
    networks = _draw_networks(space, check, seed)
    return TablePlan(space=space, found=found, blocks=blocks, networks=networks, seed=seed)


def measure_latency_table(
    space: SearchSpace,
    settings: DeviceSettings,
    *,
    most_blocks: int = MOST_BLOCKS,
    check: int = CHECKED,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> LatencyTable:
    """Measures the latency table of a space on a device of this machine, as `nas latency-table` does.

    Nothing else should run on the device meanwhile.

    Args:
        space: The space.
        settings: Where, and how.
        most_blocks: As in `plan_table`.
        check: Random networks measured whole: sums of blocks are fitted to them, and the error stated.
        rounds: Samples of each.
        seed: Of every draw.

    Raises:
        LatencyError: The device is not there, a block cannot run on it, or blocks would have to be estimated
            from too few.
        SpaceError: No network of the space can be built.
    """
    plan = plan_table(space, most_blocks=most_blocks, check=check, seed=seed)
    return measure_table(plan, settings, rounds=rounds)


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
    busyness: Busyness | None = None,
    rounds: int = ROUNDS,
    say: Say = say_nothing,
    progress: Say = say_nothing,
    on_round: OnRound | None = None,
) -> LatencyTable:
    """Measures the blocks and networks of a plan in one measurement session, and makes the table of it.

    Args:
        plan: What is measured.
        settings: Where, and how.
        busyness: How busy the device was found; it is stored, and a busy one flags the table.
        rounds: Samples of each.
        say: Receives each step as text, with an estimate of the time before the session.
        progress: Receives how many are prepared.
        on_round: Called with (rounds done, rounds) after each.

    Raises:
        LatencyError: The device is not there, or a block cannot run on it.
        SpaceError: A block cannot be built.
    """
    blocks, networks = counted(len(plan.blocks), "block"), counted(len(plan.networks), "network")
    say(f"preparing {blocks} and {networks} on {settings.text}")
    passes = _prepare_passes(plan, settings, progress)
    seconds = estimate_seconds(passes.values(), rounds)
    words = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    say(f"measuring in {rounds} rounds, about {words}: do not use the machine until then")
    measured = measure_passes(
        passes, settings, busyness=busyness, rounds=rounds, seed=plan.seed, on_round=on_round
    )
    return table_of_session(plan, measured, settings)


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


def table_of_session(plan: TablePlan, measured: DeviceSession, settings: DeviceSettings) -> LatencyTable:
    """Makes the table of a session whose passes have the keys of blocks and the digests of networks."""
    timings, flags = measured.session.timings, measured.flags
    unsettled = sum(not timing.is_settled for timing in timings.values())
    if unsettled:
        flags = (*flags, f"{unsettled} of {len(timings)} passes had not settled after their warm-up")
    environment = measured.environment
    table = make_table(plan, timings, device_name=environment.device_name, environment=environment.text)
    return replace(table, settings=settings, session=measured.record, flags=flags)


def make_table(
    plan: TablePlan, timings: Mapping[str, Timing], *, device_name: str, environment: str
) -> LatencyTable:
    """Makes a table of timings by block key and network digest, however they were measured.

    Blocks without one are estimated from the others; networks without one are left out of the fit.

    Raises:
        LatencyError: Blocks would have to be estimated from too few.
    """
    blocks = plan.found.blocks
    measured = [block for block in blocks if block.key in timings]
    estimator: BlockEstimator | None = None
    if len(measured) < len(blocks) or not plan.found.is_complete:
        times = [timings[block.key].median_ms for block in measured]
        estimator = fit_estimator(measured, times, seed=plan.seed)
    table = LatencyTable(
        device_name=device_name,
        settings=None,
        environment=environment,
        space=SpaceFacts.of(plan.space),
        blocks=tuple(_entry(block, timings.get(block.key), estimator) for block in blocks),
        blocks_origin=plan.found.origin,
        is_complete=plan.found.is_complete,
        correction=Correction(),
        estimator=estimator,
    )
    networks = {network: timings[network.digest] for network in plan.networks if network.digest in timings}
    table = _with_correction(table, networks) if networks else table
    return replace(table, range=table.range_of(plan.space, seed=plan.seed))


def _prepare_passes(plan: TablePlan, settings: DeviceSettings, progress: Say) -> dict[str, Pass]:
    """Prepares a pass of every block by its key, and of every network by its digest."""
    from search_spaces.modules import build_part

    passes: dict[str, Pass] = {}
    for number, block in enumerate(plan.blocks, start=1):
        progress(f"preparing block {number} of {len(plan.blocks)}")
        module = build_part(block.part, seed=0)
        try:
            passes[block.key] = prepare_pass(module, settings, input_shape=block.in_shape)
        except LatencyError as error:
            message = f"{error} (block of {block.stage}: {block.words})"
            raise LatencyError(message, field=error.field) from error
    for number, network in enumerate(plan.networks, start=1):
        progress(f"preparing network {number} of {len(plan.networks)}")
        passes[network.digest] = prepare_pass(network, settings)
    return passes


def _with_correction(table: LatencyTable, networks: Mapping[Network, Timing]) -> LatencyTable:
    """Fits the correction on whole networks, and states its error on each from a fit that left it out."""
    features = np.array([_features_of(table, network) for network in networks])
    measured = np.array([timing.median_ms for timing in networks.values()])
    predicted = predict_left_out(features, measured)
    checked = tuple(
        CheckedNetwork(
            digest=network.digest,
            macs=cost(network).macs,
            latency_ms=timing.median_ms,
            halves_ms=timing.halves_ms,
            predicted_ms=float(prediction),
        )
        for (network, timing), prediction in zip(networks.items(), predicted, strict=True)
    )
    return replace(table, correction=fit_correction(features, measured), check=Check(networks=checked))


def _features_of(table: LatencyTable, network: Network) -> tuple[float, ...]:
    """What a network has of the quantities of `Correction.coefficients`."""
    blocks = [block for part in inference_parts(network) for block in blocks_of(part)]
    return (
        1.0,
        sum(table.block_ms(block) for block in blocks),
        float(len(blocks)),
        sum(block.part.tally.params for block in blocks) / 1e6,
        sum(block.part.tally.activations for block in blocks) / 1e6,
    )


def _entry(block: Block, timing: Timing | None, estimator: BlockEstimator | None) -> BlockLatency:
    quartiles: tuple[float, float] | tuple[None, None] = (None, None)
    if timing is None:
        assert estimator is not None, "blocks that were not measured are estimated"
        latency_ms, n = estimator.estimate(block), 0
    else:
        latency_ms, n = timing.median_ms, timing.n
        if n > 1:
            quartiles = (timing.q1_ms, timing.q3_ms)
    return BlockLatency(
        key=block.key,
        stage=block.stage,
        words=block.words,
        in_shape=(block.in_shape.channels, block.in_shape.height, block.in_shape.width),
        macs=block.part.cost.macs,
        latency_ms=latency_ms,
        q1_ms=quartiles[0],
        q3_ms=quartiles[1],
        n=n,
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
        except SpaceError:  # the combination is not a valid network
            continue
    return tuple(found.values())
