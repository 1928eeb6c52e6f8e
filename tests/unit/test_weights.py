import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from model.calibration import Scaling
from model.config import Config
from model.network import seeded_network
from model.prior import EVIDENCE_ALONE, Fusion, Joint, Prior
from model.weights import FILE_NAME, WeightsError, load_joint, load_weights, save_weights

SMALL = Config(size=64, widths=(4, 4, 8, 8, 8), pyramid=8, embedding=8, buckets=64)
FIGURES = {"threshold": 0.4, "presence_threshold": 0.3}


def saved(folder: Path, **more):
    return save_weights(seeded_network(SMALL, 1), folder, figures=FIGURES, recipe={}, data={}, **more)


def test_the_prior_travels_with_the_weights(tmp_path):
    table = np.linspace(0.01, 0.9, 64 * 64, dtype=np.float32).reshape(64, 64)
    key = ("opacity", "right", "")
    saved(tmp_path, joint=Joint(Prior({key: table}), Fusion(0.7)))

    joint = load_joint(tmp_path)

    assert joint.fusion == Fusion(0.7)
    assert joint.prior.tables[key] == pytest.approx(table, abs=1e-3)
    load_weights(tmp_path)


def test_the_shifts_of_maps_travel_with_the_weights(tmp_path):
    saved(tmp_path, joint=Joint(Prior({}), Fusion(), {"pulmonary nodule": -0.5}))

    joint = load_joint(tmp_path)

    assert joint.shifts == {"pulmonary nodule": -0.5}
    assert not joint.prior.tables
    assert joint.fusion == Fusion()


def test_weights_without_a_prior_leave_the_evidence_alone(tmp_path):
    saved(tmp_path)

    assert load_joint(tmp_path) is EVIDENCE_ALONE


def test_scalings_and_operating_points_are_read_back(tmp_path):
    saved(tmp_path, scalings={"opacity": Scaling(0.5, -1.0)}, operating_points={"balanced": 0.25})

    _, manifest = load_weights(tmp_path)

    assert manifest.presence_scalings == {"opacity": Scaling(0.5, -1.0)}
    assert manifest.operating_points == {"balanced": 0.25}


def test_a_prior_that_was_tampered_with_is_refused(tmp_path):
    saved(tmp_path, joint=Joint(Prior({("opacity", "", ""): np.full((64, 64), 0.3, np.float32)}), Fusion()))
    file = tmp_path / FILE_NAME
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    with pytest.raises(WeightsError, match="not those of the manifest"):
        load_joint(tmp_path)


def test_a_manifest_with_an_unknown_field_is_refused(tmp_path):
    saved(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "surprise": 1}))

    with pytest.raises(WeightsError, match="not a manifest of this version"):
        load_weights(tmp_path)


class Bang:
    """Unpickled, it leaves a file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return Path.touch, (Path(self.file),)


@pytest.mark.parametrize("with_hash", [False, True])
def test_attack_a_pickle_in_the_place_of_weights_is_not_run(tmp_path, with_hash):
    folder, proof = tmp_path / "weights", tmp_path / "it ran"
    saved(folder)
    content = pickle.dumps(Bang(proof))
    (folder / FILE_NAME).write_bytes(content)
    if with_hash:  # whoever can write the one can write the other
        manifest = folder / "manifest.json"
        told = json.loads(manifest.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(told))

    with pytest.raises(WeightsError, match=r"do not fit|not those of the manifest"):
        load_weights(folder)
    assert not proof.exists()
    pickle.loads(content)
    assert proof.exists()
