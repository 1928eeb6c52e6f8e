"""ONNX Runtime on the CPU. Imported only when this engine is asked for."""

from __future__ import annotations

from pathlib import Path

from model.engines.engine import EngineError
from model.engines.graphs import Arrays, GraphEngine, Run
from model.network import GroundingNetwork


def onnx_engine(network: GroundingNetwork, folder: Path, *, threads: int | None) -> GraphEngine:
    """The graphs of *folder* in single precision.

    Raises
    ------
    EngineError
        If ONNX Runtime is not installed, or cannot read them.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError("onnxruntime is not installed: pip install 'sightline-cxr[onnx]'") from error
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads

    def run(name: str) -> Run:
        session = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        inputs = [each.name for each in session.get_inputs()]

        def answer(arrays: Arrays) -> Arrays:
            return list(session.run(None, dict(zip(inputs, arrays, strict=True))))

        return answer

    return GraphEngine(network, name="onnx", encode=run("encode.onnx"), locate=run("locate.onnx"))
