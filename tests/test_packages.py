"""What is committed can be installed, imported and licensed."""

import subprocess
import sys

import pytest

import nas


@pytest.mark.parametrize("package", ["nas", "search_spaces", "controllers"])
def test_importing_a_package_loads_neither_torch_nor_ray(package):
    code = f"import sys, {package}; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(nas._REPLACED))
def test_an_earlier_name_is_answered_with_what_replaces_it(name):
    now = nas._REPLACED[name]
    with pytest.raises(AttributeError, match=f"'{name}': it is {now} now"):
        getattr(nas, name)
    assert now.removeprefix("nas.") in nas.__all__


def test_no_public_name_is_hidden_by_a_module_of_its_name():
    code = (
        "import pkgutil, importlib, inspect, nas\n"
        "for one in pkgutil.iter_modules(nas.__path__, 'nas.'):\n"
        "    one.name == 'nas.__main__' or importlib.import_module(one.name)\n"
        "print([name for name in nas.__all__ if inspect.ismodule(getattr(nas, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
