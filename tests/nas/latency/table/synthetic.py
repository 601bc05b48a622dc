"""A device whose latencies are known: blocks cost by a rule, and networks are sums, corrected and noisy."""

import math

import numpy as np

from nas.latency.devices import DeviceSettings
from nas.latency.environment import Environment
from nas.latency.measurement import DeviceSession, SessionRecord
from nas.latency.session import measure_together
from nas.latency.table.building import plan_table, table_of_session
from search_spaces import blocks_of, inference_parts, small
from search_spaces.blocks import leaves_of

SETTINGS = DeviceSettings(device="cpu")


def small_space(**fields):
    return small(resolution=16, num_classes=4, **fields)


def block_truth_ms(block):
    """Every layer has a price of its own, and every multiply-add and value moved too."""
    layers = sum(1 for _ in leaves_of(block.part.node, block.in_shape))
    tally = block.part.tally
    return 0.05 * layers + tally.macs / 2e6 + tally.traffic / 1e6


def network_truth_ms(network):
    """What the correction has to find: 20 % more than the sum, 0.4 ms, and 2 ms a million parameters."""
    blocks = [block for part in inference_parts(network) for block in blocks_of(part)]
    params = sum(block.part.tally.params for block in blocks)
    return 0.4 + 1.2 * sum(map(block_truth_ms, blocks)) + 2.0 * params / 1e6


class Device:
    """A clock that drifts by a third, on which passes take what they truly cost, give or take the noise."""

    def __init__(self, noise=0.01, seed=0):
        self.now = 0.0
        self.noise = noise
        self.rng = np.random.default_rng(seed)

    def clock(self):
        return self.now

    def workload(self, milliseconds):
        def run():
            speed = 1.0 + 0.3 * math.sin(self.now / 3)
            self.now += milliseconds / 1000 * math.exp(self.noise * self.rng.standard_normal()) / speed

        return run

    def measure(self, plan, rounds=6):
        passes = {block.key: self.workload(block_truth_ms(block)) for block in plan.blocks}
        passes |= {network.digest: self.workload(network_truth_ms(network)) for network in plan.networks}
        return measure_together(passes, reference=self.workload(1.0), rounds=rounds, clock=self.clock)


def session_of(plan, *, noise=0.01, rounds=6):
    """A session on such a device."""
    session = Device(noise).measure(plan, rounds)
    record = SessionRecord(
        rounds=rounds,
        seconds=session.seconds,
        reference_ms=session.reference_median_ms,
        drift=session.drift,
        repeat_error=session.repeat_error,
        repeat_tau=session.repeat_tau,
    )
    environment = Environment(device_name="Synthetic", machine="none", cores=1, torch="0")
    return DeviceSession(session=session, record=record, environment=environment, flags=())


def table_of(space=None, *, noise=0.01, rounds=6, **plan):
    """A table of such a session."""
    made = plan_table(space or small_space(), **plan)
    return table_of_session(made, session_of(made, noise=noise, rounds=rounds), SETTINGS)
