import hashlib

from model.data.split import digest, fold_of, held_out

PATIENTS = [str(number) for number in range(4000)]


def test_a_fifth_of_the_patients_is_held_out():
    assert 0.18 < sum(map(held_out, PATIENTS)) / len(PATIENTS) < 0.22


def test_the_rule_is_the_one_that_a_manifest_names():
    expected = int(hashlib.sha256(b"sightline-1:61").hexdigest(), 16) % 5 == 0

    assert held_out("61") is expected


def test_folds_are_even_and_independent_of_what_is_held_out():
    aside = [fold_of(patient, 5) for patient in PATIENTS if held_out(patient)]

    assert all(0.16 < aside.count(fold) / len(aside) < 0.24 for fold in range(5))


def test_a_digest_does_not_show_the_patient():
    assert len(digest("61")) == 12
    assert digest("61") != digest("62")
