"""Uses a controller alone: it proposes candidates, you evaluate them. No images, no torch, no Ray: 5 seconds.

python examples/ask_and_tell.py
"""

from controllers import Default, RandomSearch
from search_spaces import cost, efficientnet

TARGET_MACS = 200e6


def reward(tokens: tuple[int, ...]) -> float:
    """Replaces a training: rewards squeeze-excite and wide kernels, and a cost near the target."""
    network = space.decode(tokens)
    liked = sum((stage.op.se_ratio > 0) + (stage.op.kernel_size == 5) for stage in network.stages)
    return liked / 14 - abs(cost(network).macs / TARGET_MACS - 1)


space = efficientnet()
for controller in (
    RandomSearch(space.cardinalities, space.conditions, seed=0),
    Default(space.cardinalities, space.conditions, seed=0),
):
    best = -1.0
    for _ in range(20):
        proposals = controller.propose(5)
        results = [(proposal, reward(proposal.tokens)) for proposal in proposals]
        controller.feedback(results)
        best = max(best, *(value for _, value in results))
    print(f"{type(controller).__name__:12} best reward of 100 candidates: {best:.3f}")
