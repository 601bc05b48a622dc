import math
import subprocess
import sys

import numpy as np
import pytest

from nas.statistics import deviation_interval, kendall_tau, spearman, t_quantile, wilson_interval


def test_identical_and_reversed_rankings_correlate_fully():
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)


def test_tau_and_rho_know_ties():
    # Five pairs agree, none differs, one is tied in b: 5 / sqrt(6 * 5).
    assert kendall_tau([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(5 / math.sqrt(30))
    assert spearman([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


@pytest.mark.parametrize("correlation", [kendall_tau, spearman])
@pytest.mark.filterwarnings("error")
def test_a_constant_list_has_no_correlation(correlation):
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(correlation([1, 2, 3], [1, 1, 1]))


@pytest.mark.parametrize("correlation", [kendall_tau, spearman])
def test_a_correlation_needs_two_finite_lists_of_equal_length(correlation):
    with pytest.raises(ValueError, match="equal length"):
        correlation([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least 2"):
        correlation([1], [1])
    with pytest.raises(ValueError, match="finite"):
        correlation([1, math.nan], [1, 2])


def test_wilsons_interval_of_none_and_of_all_stays_within_bounds():
    assert wilson_interval(0, 10)[0] == 0
    low, high = wilson_interval(10, 10)
    assert high == 1
    assert low == pytest.approx(0.7225, abs=1e-4)


def test_wilsons_interval_is_that_of_the_formula():
    z, share, count = 1.959964, 0.3, 50
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    assert wilson_interval(15, 50) == pytest.approx((middle - half, middle + half), abs=1e-6)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (2, 4.303), (10, 2.228), (10_000, 1.960)])
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=1e-3)


def test_the_interval_of_a_deviation_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=(2_000, 5)).std(axis=1, ddof=1)
    covered = [low < 1 < high for low, high in (deviation_interval(one, 4) for one in deviations)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_importing_the_package_loads_neither_scipy_nor_torch_nor_ray():
    code = "import nas, nas.cli.main, sys; print({'scipy', 'torch', 'ray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
