"""Tables of trained networks, published and our own, that a search can run on without training."""

from __future__ import annotations

from nas.benchmarks.accel_nasbench import load_accel_nasbench
from nas.benchmarks.benchmark import Benchmark
from nas.benchmarks.digits import digits_evaluator, digits_recipe, digits_space, load_digits_bench
from nas.benchmarks.nas_bench_macro import load_nas_bench_macro
from nas.benchmarks.surrogate import (
    Quality,
    Surrogate,
    SurrogateSettings,
    cached_surrogate,
    fit_surrogate,
    held_out_quality,
)

__all__ = [
    "Benchmark",
    "Quality",
    "Surrogate",
    "SurrogateSettings",
    "cached_surrogate",
    "digits_evaluator",
    "digits_recipe",
    "digits_space",
    "fit_surrogate",
    "held_out_quality",
    "load_accel_nasbench",
    "load_digits_bench",
    "load_nas_bench_macro",
]
