"""Loads what a user names by `file.py:name`: the file is run, as they asked, and nothing else is."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.errors import NasError
from nas.units import hint
from search_spaces import SpaceError

_FOLDERS: set[str] = set()  # of files that were imported: they are searched last


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a file is asked for.

    Attributes:
        field: The option that names it.
        what: What it is called in messages.
        is_ready: Whether a value, or what a class makes, is one; a function that makes one is good too.
        error: Type of the errors.
        otherwise: What else is to be done with a function that needs other arguments; empty where nothing.
    """

    field: str
    what: str
    is_ready: Callable[[object], bool]
    error: type[NasError]
    otherwise: str = ""

    def fits(self, value: object) -> bool:
        """Whether a value is ready; a module is not, although it may have a function of the same name."""
        return not isinstance(value, ModuleType) and self.is_ready(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Something of a user's own, found in a file.

    Attributes:
        text: What the user typed.
        value: What has this name in the file.
        module: The file as a module, which workers cannot import and must be sent by value.
        wanted: What it was asked for as.
    """

    text: str
    value: Any
    module: ModuleType
    wanted: Wanted

    @property
    def is_made(self) -> bool:
        """Whether it is a function or class that makes what is wanted, and no ready-made one."""
        return isinstance(self.value, type) or not self.wanted.fits(self.value)

    def takes(self, name: str) -> bool:
        """Whether the function or class takes an argument of this name."""
        return self.is_made and bool(accepted(self.value, {name: None}))

    def make(self, arguments: Mapping[str, Any]) -> Any:
        """What the function or class makes of those of the arguments that its signature names.

        Raises:
            NasError: It needs another argument, raises an error or ends the process; of the wanted type.
            SpaceError: It raises one.
        """
        if not self.is_made:
            return self.value
        given = accepted(self.value, arguments)
        missing = [name for name in _needed(self.value) if name not in given]
        if missing:
            raise self._error(
                f"{self.text} needs {', '.join(missing)}, but it is called with what its signature names of "
                f"{', '.join(arguments)}: give {'it' if len(missing) == 1 else 'them'} a default"
                f"{self.wanted.otherwise and f', or {self.wanted.otherwise}'}"
            )
        try:
            return self.value(**given)
        except (NasError, SpaceError):
            raise
        except (Exception, SystemExit) as error:
            raise self._error(
                f"{self.text} raised {raised(error, self.module.__file__)} (called with {_words(given)})"
            ) from error

    def _error(self, message: str) -> NasError:
        return self.wanted.error(message, field=self.wanted.field)


def find_own(text: str, wanted: Wanted) -> Own:
    """Finds `name` in a file by `file.py:name`.

    The file is imported under its own name without `.py`, so that what it defines can be pickled. It imports
    its neighbours as a script does.

    Raises:
        NasError: There is no such file or name, or nothing of this kind; the message gives near matches.
    """
    file, colon, name = text.rpartition(":")
    if not colon:
        file, name = text, ""
    module = _import_file(Path(file).expanduser(), wanted)
    found = getattr(module, name, None) if name else None
    if wanted.fits(found) or callable(found):
        return Own(text=text, value=found, module=module, wanted=wanted)
    names = _names(module, wanted)
    what = (
        f"has no {wanted.what} or function {name!r}" if name else f"is a file: say which {wanted.what} in it"
    )
    raise wanted.error(f"{file} {what}, written file.py:name: {hint(name, names)}", field=wanted.field)


def is_own(text: str) -> bool:
    """Whether a text names something in a file of the user's own: `file.py:name`, or the file alone."""
    return text.rpartition(":")[0].endswith(".py") or text.endswith(".py")


def accepted(maker: Callable[..., object], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function or class names, or all where it takes any."""
    try:
        parameters = inspect.signature(maker).parameters
    except ValueError:  # a builtin without a signature
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}


def _needed(maker: Callable[..., object]) -> list[str]:
    """Arguments without a default."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except ValueError:
        return []
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in several]


def _import_file(path: Path, wanted: Wanted) -> ModuleType:
    if path.suffix != ".py":
        law = f"{wanted.what} must be file.py:name, but got {path}: give the file and the name in it"
    elif not path.is_file():
        law = f"there is no file {path}: check the path before the colon"
    elif not path.stem.isidentifier():
        law = f"a module's name is letters, digits and _, but got {path.name!r}: rename the file"
    else:
        path = path.resolve()
        known = sys.modules.get(path.stem)
        if known is not None and getattr(known, "__file__", None) == str(path):
            return known
        if known is None and _is_free(path):
            return _execute(path, wanted)
        law = (
            f"{path.name} has the name of another module, {path.stem!r}: rename the file, for instance "
            f"my_{path.name}"
        )
    raise wanted.error(law, field=wanted.field)


def _is_free(path: Path) -> bool:
    """Whether no other module has the name of a file, but for neighbours of files imported before."""
    found = importlib.util.find_spec(path.stem)
    if found is None or found.origin is None:
        return found is None
    origin = Path(found.origin).resolve()
    return origin == path or str(origin.parent) in _FOLDERS


def _execute(path: Path, wanted: Wanted) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        with _neighbours_first(str(path.parent)):
            spec.loader.exec_module(module)
    except (SpaceError, BrokenPipeError, KeyboardInterrupt):  # or the reader of what it prints has gone
        del sys.modules[path.stem]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise wanted.error(
            f"{path} cannot be imported: {raised(error, str(path))}", field=wanted.field
        ) from error
    return module


@contextmanager
def _neighbours_first(folder: str) -> Iterator[None]:
    """Imports from a folder first, as for a script; afterwards last, for what its functions import."""
    was_there = folder in sys.path
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if not was_there:
            sys.path.append(folder)
            _FOLDERS.add(folder)


def raised(error: BaseException, file: str | None) -> str:
    """What a user's file raised, in words: type, text, and line."""
    text = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{text}{line_of(error, file)}"


def line_of(error: BaseException, file: str | None) -> str:
    """Where in the user's file an error arose, in words: the innermost line."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" (line {line})"


def _names(module: ModuleType, wanted: Wanted) -> list[str]:
    """Public ready-made ones of a module and its own classes of such, then its own functions."""
    values = [(name, value) for name, value in vars(module).items() if not name.startswith("_")]
    own = {name for name, value in values if getattr(value, "__module__", None) == module.__name__}
    ready = [name for name, value in values if wanted.fits(value)]
    ready = [name for name in ready if name in own or not isinstance(vars(module)[name], type)]
    return ready + [name for name, value in values if inspect.isfunction(value) and name in own]


def _words(arguments: Mapping[str, Any]) -> str:
    """Arguments as a message has them; of what is no plain value only the name."""
    plain = (bool, int, float, str, type(None))
    words = [f"{name}={value!r}" if isinstance(value, plain) else name for name, value in arguments.items()]
    return ", ".join(words) or "no arguments"
