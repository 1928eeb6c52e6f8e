"""Which engine runs the network."""

from __future__ import annotations

import os
from pathlib import Path

from model.engines.engine import Engine, EngineError
from model.engines.export import exported
from model.engines.pytorch import TorchEngine, cuda_engine
from model.network import GroundingNetwork

#: The names that SIGHTLINE_ENGINE takes. PyTorch in single precision is the reference.
ENGINES = ("torch", "cuda", "openvino", "openvino-bf16", "onnx")


def engine_of(
    name: str,
    network: GroundingNetwork,
    *,
    weights_sha256: str,
    cache: Path | None,
    threads: int | None,
) -> Engine:
    """The engine *name* for *network*.

    Parameters
    ----------
    cache : folder that keeps exported graphs; those engines need one.
    threads : None for all cores at hand.

    Raises
    ------
    EngineError
        If there is no such engine, or it cannot run here.
    """
    if name == "torch":
        return TorchEngine(network)
    if name == "cuda":
        return cuda_engine(network)
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
    if cache is None:
        raise EngineError(f"the engine {name} needs a folder to keep its graphs in")
    folder = exported(network, weights_sha256=weights_sha256, cache=cache)
    if name == "onnx":
        from model.engines.onnx import onnx_engine

        return onnx_engine(network, folder, threads=threads)
    from model.engines.openvino import openvino_engine

    return openvino_engine(network, folder, threads=threads, precision="bf16" if name.endswith("bf16") else "f32")


def cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group (version 2 or 1) rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup"))
    return allowed if quota is None else max(1, min(allowed, quota))


def _quota(root: Path) -> int | None:
    """Whole cores of the control group's quota, at least one, or None without one."""
    try:
        if (root / "cpu.max").exists():
            limit, period = (root / "cpu.max").read_text().split()
        else:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
    except (OSError, ValueError):
        return None
    return None if limit.strip() in ("max", "-1") else max(1, round(int(limit) / int(period)))
