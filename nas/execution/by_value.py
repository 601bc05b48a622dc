"""Sends what a user made to workers: their own modules by value, and says what cannot be sent."""

from __future__ import annotations

import inspect
import pickletools
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.errors import ContractError
from nas.evaluators import Probed, TableEvaluator
from nas.protocols import Decodes
from nas.version import PACKAGES, is_ours

MOST_DEEP = 6
"""How far a value is looked into for the part that cannot be pickled."""


def send_by_value(cloudpickle: Any, what: str, value: object, *, is_here: bool = True) -> None:
    """Has the modules of the user's own that a value needs sent with it, since workers cannot import them.

    Modules that cannot be sent so, because of what they hold, are left to be imported there.

    Args:
        cloudpickle: The module that pickles for the workers.
        what: The value in words.
        value: What will be sent.
        is_here: Whether workers run on this machine, so that it is known what they can import.

    Raises:
        ContractError: It cannot be pickled, or needs a module that can neither be sent nor be imported; names
            the part or the module.
    """
    _dumps(cloudpickle, what, value)
    sent: list[ModuleType] = []
    while True:
        try:
            found = own_modules(cloudpickle.dumps(value, protocol=5, buffer_callback=lambda _: None))
        except Exception as error:
            for module in sent:
                cloudpickle.unregister_pickle_by_value(module)
            if is_here:
                _check_importable(what, sent, error)
            return
        new = [
            module for module in found if module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        ]
        if not new:
            return
        for module in new:
            cloudpickle.register_pickle_by_value(module)
        sent += new


def _check_importable(what: str, modules: Sequence[ModuleType], error: Exception) -> None:
    """Checks that a new process of this machine finds modules that cannot be sent by value."""
    for module in modules:
        if not _is_found(module.__name__):
            raise ContractError(
                f"{what} needs the module {module.__name__!r} ({module.__file__}), which workers cannot "
                "import, and which cannot be sent to them, as it holds something that cannot be pickled "
                f"({type(error).__name__}: {error}): make that inside a function or in `prepare`, or start "
                'Python in the folder of the module, or search with executor="inline"'
            ) from error


def _is_found(name: str) -> bool:
    """Whether a new process that starts where Ray starts workers finds a module."""
    code = (
        "import sys; from importlib.util import find_spec; sys.path.insert(0, sys.argv[2])\n"
        "try: sys.exit(find_spec(sys.argv[1]) is None)\n"
        "except ImportError: sys.exit(1)"
    )
    script = str(Path(sys.argv[0]).resolve().parent)
    return not subprocess.run([sys.executable, "-c", code, name, script], check=False).returncode


def own_parts(space: Decodes, evaluator: object, probe: object = None) -> dict[str, object]:
    """What is sent to workers and may hold what the user made, each in words; our own parts do not."""
    parts: dict[str, object] = {f"the space {space.name!r}": space} if space.own_types else {}
    pair = (evaluator.evaluator, evaluator.probe) if isinstance(evaluator, Probed) else (evaluator, probe)
    for what, part in zip(("the evaluator", "the probe"), pair, strict=True):
        may_hold_own = not is_ours(part) or isinstance(part, TableEvaluator)  # a user's function
        if part is not None and may_hold_own:
            parts[what] = part
    return parts


def own_modules(pickled: bytes) -> list[ModuleType]:
    """Modules of the user's own files, neither installed nor ours, that a pickle names."""
    names = {text for _, text, _ in pickletools.genops(pickled) if isinstance(text, str) and len(text) < 200}
    names = {name for text in names for name in (text, text.partition(" ")[0])}
    return [sys.modules[name] for name in sorted(names & sys.modules.keys()) if is_own(sys.modules[name])]


def is_own(module: ModuleType) -> bool:
    """Whether a module is a Python file of the user's: workers may be unable to import it."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or module.__name__ == "__main__":
        return False
    path = Path(file).resolve()
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    is_installed = bool({"site-packages", "dist-packages"} & set(path.parts))
    return (
        module.__name__.partition(".")[0] not in PACKAGES
        and not is_installed
        and not libraries & set(path.parents)
    )


def _dumps(cloudpickle: Any, what: str, value: object) -> None:
    def dumps(part: object) -> object:
        return cloudpickle.dumps(part, protocol=5, buffer_callback=lambda _: None)

    try:
        dumps(value)
    except Exception as error:
        path, part = _culprit(dumps, value, what)
        raise ContractError(
            f"{what} is sent to the workers of Ray and so must be picklable, but {path}, of type "
            f"{type(part).__module__}.{type(part).__qualname__}, is not ({type(error).__name__}: {error}): "
            'make it in `prepare`, which runs in each worker, or search with executor="inline"'
        ) from error


def _culprit(dumps: Callable[[object], object], value: object, path: str) -> tuple[str, object]:
    """The innermost part that cannot be pickled, with the path to it."""
    for _ in range(MOST_DEEP):
        for step, part in _parts(value):
            try:
                dumps(part)
            except Exception:
                path, value = path + step, part
                break
        else:
            break
    return path, value


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value holds: items, attributes, or what a function uses from outside."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif inspect.ismethod(value):
        yield ".__self__", value.__self__
    elif inspect.isfunction(value):
        used = inspect.getclosurevars(value)
        for names in (used.nonlocals, used.globals):
            yield from ((f": its variable {name}", item) for name, item in names.items())
    elif not isinstance(value, type | ModuleType):
        slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(
            value, "__dict__", {}
        )
        yield from ((f".{name}", item) for name, item in held.items())
