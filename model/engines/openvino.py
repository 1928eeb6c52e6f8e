"""OpenVINO on the CPU. Imported only when this engine is asked for; its telemetry is switched off before that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from model.engines.engine import EngineError
from model.engines.graphs import Arrays, GraphEngine, Run
from model.network import GroundingNetwork


def without_telemetry() -> Any:
    """The package ``openvino``, whose tools would else tell their maker of each use: nothing here calls home.

    Raises
    ------
    EngineError
        If it is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its import fails; a stub takes its place
    try:
        import openvino
    except ImportError as error:
        raise EngineError("openvino is not installed: pip install 'sightline-cxr[openvino]'") from error
    return openvino


def openvino_engine(
    network: GroundingNetwork, folder: Path, *, threads: int | None, precision: str = "f32"
) -> GraphEngine:
    """The graphs of *folder*.

    Parameters
    ----------
    precision : "f32", or "bf16", which the processor must have.

    Raises
    ------
    EngineError
        If OpenVINO is not installed, or the processor has no bf16.
    """
    core = without_telemetry().Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError("this processor has no bfloat16, and OpenVINO would not use it: choose the engine openvino")
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": str(folder)}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)

    def run(name: str) -> Run:
        request = core.compile_model(core.read_model(folder / name), "CPU", settings).create_infer_request()

        def answer(arrays: Arrays) -> Arrays:
            request.infer([np.ascontiguousarray(each) for each in arrays])
            return [np.array(output.data) for output in request.output_tensors]

        return answer

    name = "openvino" if precision == "f32" else "openvino-bf16"
    return GraphEngine(network, name=name, encode=run("encode.onnx"), locate=run("locate.onnx"))
