"""Every engine answers as the reference does, from the same weights, and asks nothing of the network."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from model.batches import query_of
from model.config import Config
from model.engines import choice
from model.engines.choice import ENGINES, cores, engine_of
from model.engines.engine import EngineError
from model.engines.graphs import GraphEngine
from model.engines.pytorch import TorchEngine
from model.geometry import UPRIGHT
from model.grounder import EngineGrounder, load_grounder
from model.network import seeded_network
from model.twin.sample import sample
from model.values import Question
from model.weights import SHIPPED, load_weights

SAME = 0.99


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def questions():
    made = [sample(seed, size=256) for seed in range(600_000, 600_006)]
    rng = np.random.default_rng(0)
    return [Question(each.pixels, UPRIGHT, tuple(query_of(finding, rng) for finding in each.findings)) for each in made]


def lit_by(answer, shape):
    return np.logical_or.reduce([np.zeros(shape, bool), *(region.mask(*shape) for region in answer.regions)])


def agreement(grounder, reference, questions):
    """Intersection over union of all that is lit, over all answers; and how far the probabilities are apart."""
    both = either = 0
    apart = 0.0
    for question, ours, theirs in zip(
        questions, grounder.ground_all(questions), reference.ground_all(questions), strict=True
    ):
        for one, other in zip(ours, theirs, strict=True):
            lit, wanted = (lit_by(answer, question.pixels.shape) for answer in (one, other))
            both += int((lit & wanted).sum())
            either += int((lit | wanted).sum())
            apart = max(apart, abs(one.probability - other.probability))
    assert either > 10_000
    return both / either, apart


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_an_exported_engine_lights_what_the_reference_lights(name, cache, questions):
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name), reason=f"the extra {name} is not installed")
    grounder = load_grounder(engine=name, cache=cache, threads=1)

    overlap, apart = agreement(grounder, load_grounder(), questions)

    assert grounder.engine == name
    assert overlap >= SAME
    assert apart < 0.01


def test_bfloat16_lights_what_the_reference_lights(questions):
    """On the CPU; a GPU runs the same code."""
    network, manifest = load_weights(SHIPPED)
    half = EngineGrounder(network, manifest, engine=TorchEngine(network, name="cuda", precision=torch.bfloat16))

    overlap, apart = agreement(half, EngineGrounder(network, manifest), questions)

    assert overlap >= SAME
    assert apart < 0.05


def test_an_engine_that_batches_lights_what_the_reference_lights(questions):
    """As a GPU is given its work: eight images at once, and the phrases of all of them."""
    network, manifest = load_weights(SHIPPED)
    batches, reference = TorchEngine(network, batches=True), TorchEngine(network)
    calls = []
    for name in ("encode", "locate"):
        plain = getattr(batches, name)
        setattr(batches, name, lambda *given, name=name, plain=plain: calls.append(name) or plain(*given))

    overlap, apart = agreement(
        EngineGrounder(network, manifest, engine=batches),
        EngineGrounder(network, manifest, engine=reference),
        questions,
    )

    assert calls == ["encode", "locate"]
    assert overlap >= SAME
    assert apart < 1e-4


def test_the_reference_locates_many_phrases_in_parts_as_the_network_does_at_once():
    network, _ = load_weights(SHIPPED)
    size, count = network.config.size, 11
    engine, image = TorchEngine(network), sample(600_000, size=size).pixels
    phrases = torch.randn(count, network.config.embedding, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        encoded = network.encode(torch.from_numpy(image)[None, None])
        logits, presence = network.locate(encoded, phrases, torch.zeros(count, dtype=torch.long))

    seen = engine.encode(image[None])
    maps, found = engine.locate(seen, (phrases.numpy(),), np.zeros(count, np.int64))

    np.testing.assert_allclose(seen[0].anatomy, encoded.anatomy[0].sigmoid(), atol=1e-4)
    np.testing.assert_allclose(maps, logits.sigmoid(), atol=1e-4)
    np.testing.assert_allclose(found, presence.sigmoid(), atol=1e-4)


def test_a_gpu_is_used_when_there_is_one_and_asked_for():
    if torch.cuda.is_available():
        assert load_grounder(engine="cuda").engine == "cuda"
    else:
        with pytest.raises(EngineError, match="no GPU"):
            load_grounder(engine="cuda")


def test_bfloat16_is_refused_by_openvino_where_the_processor_has_none(cache):
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert load_grounder(engine="openvino-bf16", cache=cache).engine == "openvino-bf16"
    else:
        with pytest.raises(EngineError, match="no bfloat16"):
            load_grounder(engine="openvino-bf16", cache=cache)


def test_graphs_are_exported_once_for_the_same_weights(cache, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    load_grounder(engine="onnx", cache=cache)
    before = {file: file.stat().st_mtime_ns for file in cache.rglob("*.onnx")}
    monkeypatch.setattr("model.engines.export._export", lambda *_: pytest.fail("exported again"))

    load_grounder(engine="onnx", cache=cache)

    assert len(before) == 2
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.onnx")} == before


def test_an_unknown_engine_or_a_missing_folder_is_refused():
    network = seeded_network(Config(size=64, widths=(8, 8, 8, 8, 8), pyramid=8, embedding=8, buckets=128), 0)

    for name, says in (("tensorflow", "choose one of torch"), ("onnx", "needs a folder")):
        with pytest.raises(EngineError, match=says):
            engine_of(name, network, weights_sha256="0" * 64, cache=None, threads=1)


@pytest.mark.parametrize("missing", ["openvino", "onnxruntime"])
def test_an_engine_whose_package_is_missing_says_how_to_get_it(missing, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(EngineError, match="pip install"):
        load_grounder(engine={"onnxruntime": "onnx"}.get(missing, missing), cache=cache)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(EngineError, match="cannot be exported"):
        load_grounder(engine="onnx", cache=tmp_path / "file")


def test_what_another_engine_saw_is_refused(questions):
    network, _ = load_weights(SHIPPED)
    engine = GraphEngine(network, name="onnx", encode=lambda _: [], locate=lambda _: [])
    seen = TorchEngine(network).encode(np.zeros((1, network.config.size, network.config.size), np.float32))

    with pytest.raises(TypeError, match="another engine"):
        engine.locate(seen, (np.zeros((1, 64), np.float32),), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_a_containers_quota_bounds_the_threads(tmp_path, files, wanted):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")

    assert choice._quota(tmp_path) == wanted
    assert cores() >= 1


def test_no_engine_opens_a_socket(cache):
    """The reference is loaded too: nothing in a hospital calls home."""
    names = [name for name in ENGINES if name in ("torch", "openvino", "onnx")]
    program = f"""
        import json, sys
        from pathlib import Path
        opened = []
        def note(event, arguments):
            if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo"):
                opened.append(event)
        sys.addaudithook(note)
        import numpy as np
        from model.geometry import UPRIGHT
        from model.grounder import load_grounder
        from model.values import Query
        for name in {names}:
            grounder = load_grounder(engine=name, cache=Path({str(cache)!r}), judged=False)
            grounder.ground(np.zeros((64, 64), np.float32), UPRIGHT, (Query("nodule", "pulmonary nodule"),))
        told = "openvino_telemetry" in sys.modules and sys.modules["openvino_telemetry"] is not None
        print(json.dumps([opened, told]))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout.splitlines()[-1]) == [[], False]
