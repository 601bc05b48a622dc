"""Surrogates: accuracies of candidates that a table lacks, from networks fitted to those it has."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas.benchmarks.benchmark import Benchmark
from nas.errors import BenchmarkError
from nas.reading import read_arrays
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[np.generic]]
Predict = Callable[[Tokens], Floats]
"""Accuracies (n,), fractions, of canonical candidates (n, decisions)."""

CHUNK = 2_048
"""Candidates that are predicted at once: more would only take more memory."""

WEIGHTS = ("first", "first_bias", "second", "second_bias", "third", "third_bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class SurrogateSettings:
    """How a surrogate is fitted. The defaults were chosen on Accel-NASBench.

    Attributes:
        nets: Networks whose predictions are averaged.
        hidden: Width of both hidden layers.
        steps: Steps of AdamW on a one-cycle schedule.
        batch: Candidates of a step, drawn for each network separately.
        learning_rate: The largest.
        weight_decay: AdamW's.
        seed: Of initial weights and batches.

    Raises:
        BenchmarkError: A value is not positive.
    """

    nets: int = 8
    hidden: int = 128
    steps: int = 2_500
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0 or (value == 0 and name not in ("seed", "weight_decay")):
                raise BenchmarkError(f"`{name} > 0` must hold for a surrogate, but got {name}={value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a surrogate predicts candidates that it was not fitted to.

    Attributes:
        r2: Share of the accuracies' variance that is explained.
        tau: Kendall's rank correlation (tau-b) of predicted and measured accuracies.
        rmse_points: Root mean square error, percentage points.
        best_tau: Kendall's among the held-out candidates with the best measured accuracies.
        held_out: Candidates that were predicted.
        best: How many `best_tau` is over.
    """

    r2: float
    tau: float
    rmse_points: float
    best_tau: float
    held_out: int
    best: int

    def __str__(self) -> str:
        return (
            f"R2 {self.r2:.3f}, Kendall tau {self.tau:.3f}, among the best {self.best} {self.best_tau:.2f}, "
            f"RMSE {self.rmse_points:.2f} points on {self.held_out} held-out candidates"
        )


class Surrogate:
    """An ensemble of small networks as plain arrays: called with candidates, it gives their accuracies.

    Args:
        space: The space whose candidates are predicted.
        arrays: Weights and scales, as `fit_surrogate` makes them and `save` writes them.

    Raises:
        BenchmarkError: The arrays are not those of a surrogate for this space.
    """

    def __init__(self, space: SearchSpace, arrays: Arrays) -> None:
        missing = {*WEIGHTS, "cardinalities", "center", "spread", "scale"} - set(arrays)
        if missing:
            raise BenchmarkError(f"a surrogate must have the array {min(missing)!r}, but it is missing")
        if tuple(arrays["cardinalities"].tolist()) != space.cardinalities:
            raise BenchmarkError(
                f"a surrogate of {space.name} must be for its cardinalities {space.cardinalities}, but this "
                f"is for {tuple(arrays['cardinalities'].tolist())}: give the one that was fitted to it"
            )
        self.space = space
        self.arrays = dict(arrays)
        self._center = np.asarray(arrays["center"], np.float64)
        self._spread = np.asarray(arrays["spread"], np.float64)
        self._offset, self._scale = np.asarray(arrays["scale"], np.float64).tolist()
        self._weights = [np.asarray(arrays[name], np.float32) for name in WEIGHTS]

    @property
    def digest(self) -> str:
        """Equal for equal surrogates."""
        return digest_of(self.arrays)

    def __call__(self, tokens: Tokens) -> Floats:
        """Returns the accuracy of each canonical candidate (n, decisions) as a fraction (n,)."""
        chunks = [self._predict(tokens[first : first + CHUNK]) for first in range(0, len(tokens), CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros(0)

    def save(self, path: Path) -> None:
        """Writes an .npz file of plain arrays; nothing in it is a pickle."""
        save_arrays(path, self.arrays)

    @classmethod
    def load(cls, path: Path, space: SearchSpace) -> Surrogate:
        """Reads what `save` wrote.

        Raises:
            BenchmarkError: The file cannot be read, or is of another space.
        """
        return cls(space, load_arrays(path))

    def _predict(self, tokens: Tokens) -> Floats:
        first, first_bias, second, second_bias, third, third_bias = self._weights
        features = network_features(self.space, tokens, self._center, self._spread)
        hidden = _silu(features @ first + first_bias)
        outputs = _silu(hidden @ second + second_bias) @ third + third_bias  # (nets, n, 1)
        accuracies: Floats = outputs.mean(axis=0, dtype=np.float64)[:, 0] * self._scale + self._offset
        return accuracies


def fit_surrogate(benchmark: Benchmark, settings: SurrogateSettings | None = None) -> Surrogate:
    """Fits a surrogate to the mean accuracies of a table, on one thread of the CPU (some 15 s).

    Each network sees every option of every decision as +1 or -1, and the exact multiply-adds and
    parameters as standardised logarithms. The same settings, machine and torch give the same surrogate.

    Args:
        benchmark: The table.
        settings: How to fit; None means the defaults.
    """
    import torch

    settings = settings or SurrogateSettings()
    logs = log_costs(benchmark.space, benchmark.tokens)
    center, spread = logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-9)
    accuracies = benchmark.mean_accuracies
    offset, scale = float(accuracies.mean()), max(float(accuracies.std()), 1e-9)
    inputs = torch.from_numpy(network_features(benchmark.space, benchmark.tokens, center, spread))
    targets = torch.from_numpy(((accuracies - offset) / scale).astype(np.float32))[:, None]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        weights = _train(inputs, targets, settings)
    finally:
        torch.set_num_threads(threads)
    arrays: dict[str, npt.NDArray[np.generic]] = dict(zip(WEIGHTS, weights, strict=True))
    arrays["cardinalities"] = np.array(benchmark.space.cardinalities, np.int64)
    arrays |= {"center": center, "spread": spread, "scale": np.array([offset, scale])}
    return Surrogate(benchmark.space, arrays)


def cached_surrogate(
    benchmark: Benchmark, folder: str | Path, settings: SurrogateSettings | None = None
) -> Surrogate:
    """Reads the surrogate of a table from a folder; fits it first where it is not there.

    Args:
        benchmark: The table.
        folder: Where surrogates are kept, under a name made of the table and the settings.
        settings: How to fit; None means the defaults.
    """
    settings = settings or SurrogateSettings()
    path = Path(folder) / f"mlp-{table_digest(benchmark, asdict(settings))}.npz"
    if not path.exists():
        fit_surrogate(benchmark, settings).save(path)
    return Surrogate.load(path, benchmark.space)


def held_out_quality(
    benchmark: Benchmark,
    fit: Callable[[Benchmark], Predict] = fit_surrogate,
    *,
    held_out: int = 1_000,
    best: int = 200,
    seed: int = 0,
) -> Quality:
    """Fits to a part of a table and predicts the rest.

    Args:
        benchmark: The table.
        fit: Makes a surrogate, of any family, of a table.
        held_out: Candidates that are predicted; half the table where it has fewer than twice as many.
        best: How many of them, the best by measured accuracy, `Quality.best_tau` is over.
        seed: Of the split, which is the same for all families.
    """
    held_out = min(held_out, len(benchmark.tokens) // 2)
    order = np.random.default_rng(seed).permutation(len(benchmark.tokens))
    out, rest = order[:held_out], order[held_out:]
    known = replace(
        benchmark,
        tokens=benchmark.tokens[rest],
        accuracies=benchmark.accuracies[rest],
        is_exhaustive=False,
    )
    measured = benchmark.mean_accuracies[out]
    predicted = fit(known)(benchmark.tokens[out])
    top = np.argsort(-measured, kind="stable")[:best]
    errors = predicted - measured
    return Quality(
        r2=float(1 - (errors**2).sum() / ((measured - measured.mean()) ** 2).sum()),
        tau=kendall_tau(predicted, measured),
        rmse_points=100 * float(np.sqrt((errors**2).mean())),
        best_tau=kendall_tau(predicted[top], measured[top]),
        held_out=held_out,
        best=len(top),
    )


def kendall_tau(one: Floats, other: Floats) -> float:
    """Kendall's tau-b of two sequences; 0 where either does not vary. Memory grows with their square."""
    signs = [np.sign(values[:, None] - values[None]) for values in (one, other)]
    norm = float(np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum()) / norm if norm else 0.0


def log_costs(space: SearchSpace, tokens: Tokens) -> Floats:
    """Logarithms of multiply-adds and parameters (n, 2)."""
    costs = space.costs(tokens)
    return np.log(np.stack([costs.macs, costs.params], axis=1).astype(np.float64))


def network_features(
    space: SearchSpace, tokens: Tokens, center: Floats, spread: Floats
) -> npt.NDArray[np.float32]:
    """What the networks see: each option as +1 or -1, then the standardised logarithms of costs."""
    cardinalities = np.array(space.cardinalities)
    features = np.full((len(tokens), int(cardinalities.sum()) + 2), -1, np.float32)
    features[np.arange(len(tokens))[:, None], tokens + np.cumsum(cardinalities) - cardinalities] = 1
    features[:, -2:] = (log_costs(space, tokens) - center) / spread
    return features


def table_digest(benchmark: Benchmark, settings: Mapping[str, object]) -> str:
    """A name for what is fitted to a table with these settings: 16 hexadecimal digits."""
    said = {"name": benchmark.name, "space": benchmark.space.name, **settings}
    table = {"tokens": benchmark.tokens, "accuracies": benchmark.accuracies}
    text = json.dumps(said, sort_keys=True) + digest_of(table)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(arrays: Arrays) -> str:
    """SHA-256 over arrays with their names, types and shapes: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Writes arrays as a whole file or none; a file that is there already stays, as others may use it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".surrogate-") as folder:
        whole = Path(folder) / "arrays.npz"
        np.savez(whole, allow_pickle=False, **arrays)
        if not path.exists():
            whole.replace(path)


def load_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Reads arrays.

    Raises:
        BenchmarkError: The file cannot be read, or holds something else than plain arrays.
    """
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"{path} must be an .npz file of a surrogate, but: {error}. Delete it, and it is made again"
        ) from error


def _silu(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = values / (1 + np.exp(-values))
    return result


def _train(inputs: Tensor, targets: Tensor, settings: SurrogateSettings) -> list[npt.NDArray[np.generic]]:
    """Trains all networks side by side; returns their weights in the order of `WEIGHTS`."""
    import torch
    from torch.nn.functional import silu

    generator = torch.Generator().manual_seed(settings.seed)
    width, hidden, nets = inputs.shape[1], settings.hidden, settings.nets
    weights: list[Tensor] = []
    for given, made, gain in ((width, hidden, 2), (hidden, hidden, 2), (hidden, 1, 1)):
        weights.append(torch.randn(nets, given, made, generator=generator) * (gain / given) ** 0.5)
        weights.append(torch.zeros(nets, 1, made))
    for tensor in weights:
        tensor.requires_grad_()
    first, first_bias, second, second_bias, third, third_bias = weights
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.steps)
    for _ in range(settings.steps):
        rows = torch.randint(0, len(inputs), (nets, settings.batch), generator=generator)
        output = silu(silu(inputs[rows] @ first + first_bias) @ second + second_bias) @ third + third_bias
        loss = (output - targets[rows]).square().mean(dim=(1, 2)).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return [tensor.detach().numpy() for tensor in weights]
