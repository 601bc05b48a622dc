"""Writes a module as ONNX, quietly and with nothing of this machine in the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.errors import ExportError

OPSET = 18
INPUT, OUTPUT = "images", "logits"
NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def write_onnx(module: nn.Module, shape: tuple[int, int, int], path: Path, facts: Mapping[str, str]) -> None:
    """Writes `images` (batch, channels, height, width) -> `logits` (batch, classes), for any batch.

    Args:
        module: In evaluation mode, on the CPU.
        shape: Channels, height and width of an image.
        path: The file.
        facts: What the file says about itself (ONNX's model metadata).

    Raises:
        ExportError: The module cannot be written as ONNX.
        OSError: The file cannot be written.
    """
    import onnx

    try:
        model = _translate(module, shape)
    except Exception as error:  # the exporter raises whatever a user's module makes it stumble over
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ExportError(
            f"the network cannot be written as ONNX ({type(error).__name__}: {reason}): make its layers "
            "traceable by torch.export for any batch, or export without ONNX"
        ) from error
    _drop_traces(model)
    onnx.helper.set_model_props(model, dict(facts))
    path.write_bytes(model.SerializeToString())


def _translate(module: nn.Module, shape: tuple[int, int, int]) -> Any:
    with _quietly():
        program = torch.onnx.export(
            module,
            # Two images: with a single one the exporter may take the batch for a constant.
            (torch.zeros((2, *shape)),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        return program.model_proto


def _drop_traces(model: Any) -> None:
    """Removes the exporter's notes on every node: among them are stack traces with this machine's folders."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]


@contextmanager
def _quietly() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
