"""The packages can be imported without what is slow."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["nas", "search_spaces", "controllers"])
def test_importing_a_package_loads_neither_torch_nor_ray(package):
    code = f"import sys, {package}; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
