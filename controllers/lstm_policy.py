"""The autoregressive policy: an LSTM that makes each decision knowing the ones before it.

The only module here that loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from controllers.contract import Floats, State, Tokens
from controllers.decisions import Decisions

HIDDEN = 100
INIT_RANGE = 0.1

Choose: TypeAlias = Callable[[int, Floats], Tokens]
"""Picks a token `(n,)` at a decision given the probabilities `(n, width)` of its options."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread in its body.

    A step here is microseconds of work; on a machine whose cores are busy, threads that wait for each other
    make it hundreds of times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TokenLSTM(nn.Module):
    """One LSTM layer over the decisions, one softmax layer per decision.

    The input at a decision is the embedding of the token chosen before it, `(n, decisions, hidden)` in all;
    each token of each decision has an embedding of its own, and so has the start.

    Args:
        cardinalities: Number of options of each decision.
        hidden: Units of the layer and size of the embeddings.

    Source: Zoph et al., NASNet, CVPR 2018, appendix A.2: one layer, 100 hidden units, weights from
    U(-0.1, 0.1). Size of the embeddings: ours.
    """

    offsets: Tensor
    missing: Tensor

    def __init__(self, cardinalities: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        counts = torch.tensor(cardinalities)
        width = max(cardinalities)
        self.embedding = nn.Embedding(1 + sum(cardinalities), hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.head_weight = nn.Parameter(torch.empty(len(cardinalities), width, hidden))
        self.head_bias = nn.Parameter(torch.empty(len(cardinalities), width))
        self.register_buffer("offsets", 1 + torch.cumsum(counts, 0) - counts, persistent=False)
        self.register_buffer("missing", torch.arange(width) >= counts[:, None], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns log-probabilities `(n, decisions, width)` of each option given the tokens before it."""
        start = torch.zeros(len(tokens), 1, dtype=torch.long)
        inputs = torch.cat([start, tokens[:, :-1] + self.offsets[:-1]], dim=1)
        hidden, _ = self.lstm(self.embedding(inputs))
        logits = torch.einsum("ndh,dkh->ndk", hidden, self.head_weight) + self.head_bias
        return torch.log_softmax(logits.masked_fill(self.missing, -math.inf), dim=-1)

    def advance(
        self, decision: int, before: Tensor | None, memory: tuple[Tensor, Tensor], n: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the logits `(n, width)` of one decision, -inf where padded, and the memory after it."""
        if before is None:
            inputs = torch.zeros(n, 1, dtype=torch.long)
        else:
            inputs = (before + self.offsets[decision - 1])[:, None]
        hidden, memory = self.lstm(self.embedding(inputs), memory)
        logits = hidden[:, 0] @ self.head_weight[decision].T + self.head_bias[decision]
        return logits.masked_fill(self.missing[decision], -math.inf), memory


class LSTMPolicy:
    """Each decision is drawn from a softmax that has seen the decisions before it.

    Inactive decisions enter as token 0 and count in neither log-probability nor entropy.

    Args:
        decisions: What there is to decide.
        learning_rate: Step size of Adam.
        seed: Of the initial weights.
    """

    def __init__(self, decisions: Decisions, *, learning_rate: float, seed: int) -> None:
        self._decisions = decisions
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation would move its global generator
            self._network = TokenLSTM(decisions.cardinalities, HIDDEN)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self._network.parameters():
            nn.init.uniform_(parameter, -INIT_RANGE, INIT_RANGE, generator=generator)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=learning_rate)

    @one_thread()
    @torch.no_grad()
    def sample(self, rng: np.random.Generator, n: int, temperature: float = 1.0) -> Tokens:
        """Draws canonical tokens `(n, decisions)`; logits are divided by the temperature, inf is uniform."""
        uniform = rng.random((n, len(self._decisions)))

        def choose(decision: int, p: Floats) -> Tokens:
            chosen: Tokens = (uniform[:, decision, None] >= np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
            return np.minimum(chosen, self._decisions.cardinalities[decision] - 1)

        tokens, _ = self._walk(n, temperature, choose)
        return tokens

    @one_thread()
    @torch.no_grad()
    def log_prob(self, tokens: Tokens) -> Floats:
        """Returns the log-probabilities `(n,)` of canonical tokens."""
        result: Floats = self._log_prob(torch.from_numpy(tokens))[0].double().numpy()
        return result

    @one_thread()
    @torch.no_grad()
    def entropy(self, tokens: Tokens) -> float:
        """Returns the mean entropy in nats of a decision, over those active in the candidates."""
        _, entropies, active = self._log_prob(torch.from_numpy(tokens))
        return float((entropies * active).sum() / active.sum())

    @one_thread()
    def step(self, tokens: Tokens, weights: Floats, entropy_coef: float) -> None:
        """Takes one Adam step; see `controllers.policies.Policy.step`."""
        log_prob, entropies, active = self._log_prob(torch.from_numpy(tokens))
        entropy = (entropies * active).sum(dim=1).mean()
        objective = (torch.from_numpy(weights).float() * log_prob).sum() + entropy_coef * entropy
        self._optimizer.zero_grad()
        (-objective).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimizer.step()

    @one_thread()
    @torch.no_grad()
    def probabilities(self) -> list[Floats]:
        """Returns for each decision the probability of each option, earlier decisions at their mode."""
        _, distributions = self._walk(1, 1.0, lambda _, p: p.argmax(axis=1))
        counts = self._decisions.cardinalities
        return [p[0, :count].copy() for p, count in zip(distributions, counts, strict=True)]

    def state_dict(self) -> State:
        """Returns weights and Adam's moments, `(3, weights)` in float32, and its steps."""
        parameters = list(self._network.parameters())
        states = [self._optimizer.state[p] for p in parameters if p in self._optimizer.state]
        rows = [_flat(parameters)]
        if states:
            rows += [_flat([s[moment] for s in states]) for moment in ("exp_avg", "exp_avg_sq")]
        return {"arrays": np.stack(rows), "steps": int(states[0]["step"]) if states else 0}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        parameters = list(self._network.parameters())
        rows = [_shaped(row, parameters) for row in np.array(state["arrays"], dtype=np.float32)]
        with torch.no_grad():
            for parameter, value in zip(parameters, rows[0], strict=True):
                parameter.copy_(value)
        self._optimizer.state.clear()
        for index, parameter in enumerate(parameters if state["steps"] else []):
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(state["steps"])),
                "exp_avg": rows[1][index],
                "exp_avg_sq": rows[2][index],
            }

    def _log_prob(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns log-probabilities `(n,)`, entropies `(n, decisions)` and activity as 0 and 1, likewise."""
        log_p = self._network(tokens)
        active = torch.from_numpy(self._decisions.active(tokens.numpy()))
        chosen = log_p.gather(2, tokens[:, :, None])[:, :, 0]
        # A padded option has log-probability -inf: 0 in its place keeps 0 * -inf out of the gradient.
        finite = log_p.masked_fill(self._network.missing, 0.0)
        entropies = -(log_p.exp() * finite).sum(dim=2)
        return torch.where(active, chosen, 0.0).sum(dim=1), entropies, active.float()

    def _walk(self, n: int, temperature: float, choose: Choose) -> tuple[Tokens, list[Floats]]:
        """Decides one thing after another and returns canonical tokens and each decision's distribution."""
        shape = (n, len(self._decisions))
        tokens, active = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        memory = (torch.zeros(1, n, HIDDEN), torch.zeros(1, n, HIDDEN))
        before: Tensor | None = None
        distributions: list[Floats] = []
        for decision in range(len(self._decisions)):
            logits, memory = self._network.advance(decision, before, memory, n)
            missing = self._network.missing[decision]
            p: Floats = (
                torch.softmax((logits / temperature).masked_fill(missing, -math.inf), 1).double().numpy()
            )
            active[:, decision] = self._decisions.active_at(decision, tokens, active)
            tokens[:, decision] = np.where(active[:, decision], choose(decision, p), 0)
            before = torch.from_numpy(tokens[:, decision].copy())
            distributions.append(p)
        return tokens, distributions


def _flat(tensors: list[Tensor] | list[nn.Parameter]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return torch.cat([t.detach().reshape(-1) for t in tensors]).numpy()


def _shaped(row: np.ndarray[tuple[int], np.dtype[np.float32]], like: list[nn.Parameter]) -> list[Tensor]:
    parts = torch.split(torch.from_numpy(row.copy()), [parameter.numel() for parameter in like])
    return [part.clone().reshape(p.shape) for part, p in zip(parts, like, strict=True)]
