"""Finds the search space that a user names: a built-in one, or `file.py:name` of their own.

A user's file is run, as they asked; nothing else is.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.errors import SpaceArgumentError
from nas.units import hint
from search_spaces import SearchSpace, SpaceError
from search_spaces.families import (
    efficientnet,
    efficientnet_v2,
    mnasnet,
    mobilenet_v3,
    nas_bench_macro,
    resnet,
    small,
)
from search_spaces.families.efficientnet_v2 import AROUND as EFFICIENTNETS_V2
from search_spaces.families.mobilenet_v3 import AROUND as MOBILENETS_V3
from search_spaces.families.resnet import AROUND as RESNETS

BUILT_IN: Mapping[str, Callable[..., SearchSpace]] = {
    "mnasnet": mnasnet,
    "efficientnet": efficientnet,
    "efficientnet_v2": efficientnet_v2,
    "mobilenet_v3": mobilenet_v3,
    "resnet": resnet,
    "nas_bench_macro": nas_bench_macro,
    "small": small,
}

VARIANTS: Mapping[str, Callable[..., SearchSpace]] = {
    "mnasnet_a1": partial(mnasnet, around="mnasnet_a1"),
    "mnasnet_pool": partial(mnasnet, pooling_skip=True),
    "mnasnet_vertex": partial(mnasnet, form="vertex"),
    "efficientnet_v2_width": partial(efficientnet_v2, with_width=True),
    **{name: partial(efficientnet_v2, around=name) for name in EFFICIENTNETS_V2},
    **{name: partial(mobilenet_v3, around=name) for name in MOBILENETS_V3},
    **{name: partial(resnet, around=name) for name in RESNETS},
    **{f"{name}_flat": partial(make, flat=True) for name, make in BUILT_IN.items()},
}
"""Forms of the built-in spaces by names of their own; other forms are a line in a user's own file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSource:
    """A space that was found, before it is known which images it is for.

    Attributes:
        text: What the user typed.
        maker: Makes the space from the keyword arguments it accepts; None where the space is ready-made.
        space: The ready-made space; None where it has to be made.
        modules: The user's own modules, which workers cannot import and must be sent by value.
    """

    text: str
    maker: Callable[..., SearchSpace] | None = None
    space: SearchSpace | None = None
    modules: tuple[ModuleType, ...] = ()

    @property
    def resolution(self) -> int | None:
        """Image side in pixels that a ready-made space insists on; None where it can be chosen."""
        return None if self.space is None else self.space.template.resolution

    def make(
        self, *, resolution: int, num_classes: int, in_channels: int, width: float | None = None
    ) -> SearchSpace:
        """The space for images of this size, number of channels and number of classes.

        Raises:
            SpaceArgumentError: A ready-made space is for other images, or a function does not make a space.
            SpaceError: The space is not valid.
        """
        wanted = {"resolution": resolution, "num_classes": num_classes, "in_channels": in_channels}
        if self.space is not None:
            space = self.space
            if width is not None:
                raise SpaceArgumentError(
                    f"--width needs a space that is made by a function, but {self.text} is not",
                    field="width",
                )
        else:
            arguments: dict[str, Any] = {**wanted, **({} if width is None else {"width": width})}
            space = self._call(arguments)
        for name, value in wanted.items():
            has = getattr(space.template, name)
            if has != value:
                raise SpaceArgumentError(
                    f"the space {self.text} has {name}={has!r}, but the images need {name}={value}: make it "
                    f"a function that takes {name}, or choose other images",
                    field="space",
                )
        return space

    def _call(self, arguments: Mapping[str, Any]) -> SearchSpace:
        assert self.maker is not None
        accepted = _accepted(self.maker, arguments)
        if "width" in arguments and "width" not in accepted:
            raise SpaceArgumentError(
                f"--width was given, but {self.text} takes no argument named width", field="width"
            )
        try:
            space = self.maker(**accepted)
        except SpaceError:
            raise
        except Exception as error:
            if not self.modules:
                raise
            raise SpaceArgumentError(
                f"{self.text} raised {type(error).__name__}: {error} (called with {_words(accepted)})",
                field="space",
            ) from error
        if not isinstance(space, SearchSpace):
            raise SpaceArgumentError(
                f"{self.text} must return a search_spaces.SearchSpace, but returned {type(space).__name__}",
                field="space",
            )
        return space


def is_built_in(text: str) -> bool:
    """Whether a built-in space or variant has this name."""
    return text in BUILT_IN or text in VARIANTS


def find_space(text: str) -> SpaceSource:
    """Finds a built-in space or variant by name, or the space or function `name` in a file by `file.py:name`.

    The file is imported under its own name without `.py`, so that the ops it defines can be pickled.

    Raises:
        SpaceArgumentError: There is no such space, file or name; the message gives near matches.
    """
    by_name = {**BUILT_IN, **VARIANTS}
    if text in by_name:
        return SpaceSource(text=text, maker=by_name[text])
    file, colon, name = text.rpartition(":")
    if not colon and text.endswith(".py"):
        file, name = text, ""
    if not file.endswith(".py"):
        raise SpaceArgumentError(
            f"there is no space {text!r}, nor is it file.py:name of your own: {hint(text, by_name)}",
            field="space",
        )
    module = _import_file(Path(file).expanduser())
    found = getattr(module, name, None) if name else None
    if isinstance(found, SearchSpace):
        return SpaceSource(text=text, space=found, modules=(module,))
    if callable(found):
        return SpaceSource(text=text, maker=found, modules=(module,))
    names = _space_names(module)
    what = f"has no search space or function {name!r}" if name else "is a file: say which space in it"
    raise SpaceArgumentError(f"{file} {what}, written file.py:name: {hint(name, names)}", field="space")


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SpaceArgumentError(f"there is no file {path}: check the path before the colon", field="space")
    path = path.resolve()
    if not path.stem.isidentifier():
        raise SpaceArgumentError(
            f"a module's name is letters, digits and _, but got {path.name!r}: rename the file",
            field="space",
        )
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    found = importlib.util.find_spec(path.stem) if known is None else None
    is_same = found is not None and found.origin is not None and Path(found.origin).resolve() == path
    if known is not None or (found is not None and not is_same):
        raise SpaceArgumentError(
            f"{path.name} has the name of another module, {path.stem!r}: rename the file, "
            f"for instance my_{path.name}",
            field="space",
        )
    return _execute(path)


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (SpaceError, BrokenPipeError):  # a reader of what it prints has gone
        del sys.modules[path.stem]
        raise
    except Exception as error:
        del sys.modules[path.stem]
        raise SpaceArgumentError(
            f"{path} cannot be imported: {type(error).__name__}: {error}{_line_of(error, path)}",
            field="space",
        ) from error
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """Where in the user's file an error arose, in words."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" (line {line})"


def _accepted(maker: Callable[..., object], arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(maker).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}


def _space_names(module: ModuleType) -> list[str]:
    """Public spaces of a module, then its own functions."""
    values = [(name, value) for name, value in vars(module).items() if not name.startswith("_")]
    spaces = [name for name, value in values if isinstance(value, SearchSpace)]
    functions = [
        name for name, value in values if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    return spaces + functions


def _words(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
