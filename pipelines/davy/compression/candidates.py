"""Making the candidates: fp32, int8, structurally pruned, and both.

Belongs here: pruning with fine-tuning, static quantization, their settings. Not here: how good
or fast a candidate is.
"""

from __future__ import annotations

import copy
import platform
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch_pruning
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import CalibrationMethod
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from davy.compression.export import export, read_onnx, write_model
from davy.core.errors import InvalidInputError
from davy.data.task import Task
from davy.training.examples import Examples
from davy.training.fitting import Effort, fit, score
from davy.training.network import RankingNetwork, one_thread

# A short fit to another network's scores has no noise of labels to fear: larger steps and more
# of the rows than in training bring it closest to them.
FINE_TUNE_RATE_SHARE = 2.0
FINE_TUNE_KEPT_SHARE = 0.5
CALIBRATION_REQUESTS = 100
# Flags of /proc/cpuinfo of processors whose 8-bit products do not saturate in 16 bits.
DOT_PRODUCT_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate's file, and what was done to make it."""

    name: str
    path: Path
    details: Mapping[str, Any]


def make(
    task: Task, network: RankingNetwork, train: Examples, valid: Examples, out: Path
) -> Iterator[Made]:
    """Write the candidates that the task names, fp32 first.

    Parameters
    ----------
    task : Task
        Which candidates, the share to prune, epochs to fine-tune.
    network : RankingNetwork
        The trained network; it is not changed.
    train, valid : Examples
        Requests to fine-tune on; to stop by and to calibrate with.
    out : Path
        Folder for ``<name>.onnx``.

    Raises
    ------
    InvalidInputError
        An exported model does not keep its contract, or pruning left nothing to prune.
    """
    wanted = task.compression.candidates
    networks: dict[str, tuple[RankingNetwork, dict[str, Any]]] = {"fp32": (network, {})}
    if {"pruned", "pruned_int8"} & set(wanted):
        networks["pruned"] = prune(task, network, train, valid)
    for name, (model, how) in networks.items():
        path = out / f"{name}.onnx"
        parity = export(model, task, path)
        details = {"widths": list(model.widths), **how}
        if name in wanted:
            yield Made(name=name, path=path, details={**details, "parity": parity})
        small = "int8" if name == "fp32" else f"{name}_int8"
        if small in wanted:
            target = out / f"{small}.onnx"
            yield Made(
                name=small, path=target, details=details | quantize(task, path, valid, target)
            )
        if name not in wanted:
            path.unlink()


def prune(
    task: Task, network: RankingNetwork, train: Examples, valid: Examples
) -> tuple[RankingNetwork, dict[str, Any]]:
    """Return a copy without the weakest hidden units, fine-tuned, and what was done.

    It is fine-tuned to the scores of the whole network, not to the labels: it is to take that
    one's place without a difference, not to be another model.

    Whole units go, so that the matrices become smaller: zeros alone make nothing smaller or
    faster in onnxruntime (Fang et al., "DepGraph: towards any structural pruning", CVPR 2023).

    Raises
    ------
    InvalidInputError
        The layers are too narrow for the share to remove any unit.
    """
    smaller = copy.deepcopy(network)
    first, last = smaller.body[0], smaller.body[-1]
    width = first.in_features if isinstance(first, nn.Linear) else 0
    with one_thread():
        torch_pruning.MetaPruner(
            smaller.body,
            torch.zeros(2, width),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=task.compression.prune_share,
            ignored_layers=[last],
        ).step()
    if smaller.widths == network.widths:
        raise InvalidInputError(
            f"no unit of {network.widths} can go at a share of {task.compression.prune_share}",
            where="compression.prune_share",
            fix="Raise it, or widen model.hidden",
        )
    details: dict[str, Any] = {
        "prune_share": task.compression.prune_share,
        "fine_tune_epochs": task.compression.fine_tune_epochs,
    }
    if task.compression.fine_tune_epochs:
        effort = Effort(
            epochs=task.compression.fine_tune_epochs,
            batch_rows=task.model.batch_rows,
            learning_rate=task.model.learning_rate * FINE_TUNE_RATE_SHARE,
            seed=task.model.seed + 1,
            kept_share=FINE_TUNE_KEPT_SHARE,
        )
        history = fit(
            smaller,
            train,
            valid,
            effort,
            k=task.objective.cutoff,
            targets=score(network, train),
        )
        details["fine_tune_valid"] = [round(epoch.valid, 5) for epoch in history]
    return smaller.eval(), details


def quantize(task: Task, source: Path, valid: Examples, target: Path) -> dict[str, Any]:
    """Write the int8 form of an exported model, calibrated on held-out rows.

    Weights are signed, activations unsigned 8-bit numbers, in QDQ form. The last layer stays in
    float: 256 levels of the score would tie candidates that differ.

    Returns
    -------
    dict
        Settings that were used, for the contract.
    """
    reduced = needs_reduced_range(platform.machine(), _processor_flags())
    model = read_onnx(source)
    layers = [node.name for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    with tempfile.TemporaryDirectory() as folder:
        prepared, raw = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(
            str(source), str(prepared), skip_optimization=True, skip_symbolic_shape=True
        )
        quantize_static(
            str(prepared),
            str(raw),
            _Calibration(valid, np.random.default_rng(task.model.seed)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=reduced,
            nodes_to_quantize=layers[:-1],
            calibrate_method=CalibrationMethod.MinMax,
        )
        write_model(read_onnx(raw), task, target)
    return {
        "format": "QDQ u8s8",
        "reduce_range": reduced,
        "calibration_requests": min(CALIBRATION_REQUESTS, valid.requests),
    }


def needs_reduced_range(machine: str, flags: frozenset[str]) -> bool:
    """Whether weights must keep to 7 bits for 8-bit products not to saturate.

    Parameters
    ----------
    machine : str
        Architecture as `platform.machine` names it.
    flags : frozenset of str
        Features of the processor; on x86-64 without a dot-product instruction two products are
        added in 16 bits, where full 8-bit weights overflow.

    Examples
    --------
    >>> needs_reduced_range("x86_64", frozenset({"avx2"}))
    True
    >>> needs_reduced_range("x86_64", frozenset({"avx2", "avx512_vnni"}))
    False
    """
    return machine.lower() in ("x86_64", "amd64") and not flags & DOT_PRODUCT_FLAGS


def _processor_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Held-out requests, each a batch of its own."""

    def __init__(self, valid: Examples, rng: np.random.Generator) -> None:
        self._batches = _requests(valid.sample(CALIBRATION_REQUESTS, rng))

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._batches, None)


def _requests(examples: Examples) -> Iterator[dict[str, npt.NDArray[Any]]]:
    for low, size in zip(examples.starts, examples.sizes(), strict=True):
        yield {name: column[low : low + size] for name, column in examples.features.items()}
