import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.identity import derived_id, derived_uid

PARTS = st.lists(st.text(), min_size=1, max_size=4).map(tuple)


@given(st.text(min_size=1), PARTS)
def test_a_uid_is_valid_and_the_same_every_time(kind, parts):
    uid = derived_uid(kind, *parts)

    assert uid == derived_uid(kind, *parts)
    assert len(uid) <= 64
    assert uid.startswith("2.25.")
    assert uid[5:].isdigit()
    assert uid[5] != "0"


@given(PARTS, PARTS)
def test_different_parts_give_different_identities(first, second):
    assert (derived_id("phrase", *first) == derived_id("phrase", *second)) == (first == second)


def test_the_kind_is_part_of_the_identity():
    assert derived_uid("seg", "1.2") != derived_uid("sr", "1.2")


def test_an_identity_never_changes_between_releases():
    assert derived_id("seg", "1.2.3", "x") == "57ea135e-7bea-55b3-b67e-3906dfbd3fdc"


@pytest.mark.parametrize(("kind", "parts"), [("", ("a",)), ("seg", ())])
def test_an_identity_of_nothing_is_refused(kind, parts):
    with pytest.raises(ValueError, match="identity"):
        derived_uid(kind, *parts)
