"""That an exported model answers what the fitted one does: no parity, no artefact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Parity
from twinloop.errors import IntegrityError

PARITY_TOLERANCE = 1e-4


def session(model: bytes) -> ort.InferenceSession:
    """Open an ONNX model on one thread, as serving does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def prove_parity(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]], *, tolerance: float = PARITY_TOLERANCE) -> Parity:
    """Compare (ONNX output, framework output) pairs of held-out rows; equal infinities agree, NaN agrees with nothing.

    Raises:
        IntegrityError: They differ by more than the tolerance, or there was nothing to compare: no parity, no artefact.
    """
    worst, rows = 0.0, 0
    for exported, fitted in pairs:
        if exported.shape != fitted.shape:
            raise IntegrityError(f"the ONNX model answers {exported.shape}, the fitted one {fitted.shape}")
        same = exported == fitted
        differing = np.abs(exported[~same].astype(np.float64) - fitted[~same])
        # Not Python's max, which would pass over what is not a number.
        worst, rows = float(np.maximum(worst, differing.max(initial=0))), rows + len(exported)
    if rows == 0:
        raise IntegrityError("there were no held-out rows to prove parity on; no artefact is written")
    if not worst <= tolerance:  # also where it is not a number
        raise IntegrityError(
            f"the ONNX model differs from the fitted one by {worst:.2g}; up to {tolerance:g} is allowed"
        )
    return Parity(max_abs_diff=worst, rows=rows, tolerance=tolerance)
