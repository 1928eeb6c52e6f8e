import pytest

from model.recent import Recent


def test_what_is_kept_is_not_made_again():
    made = []
    recent = Recent(2)

    def make(keys):
        made.append(list(keys))
        return [key.upper() for key in keys]

    assert recent.of(["a", "b", "a"], make) == ["A", "B", "A"]
    assert recent.of(["b"], make) == ["B"]
    assert made == [["a", "b"]]


def test_what_was_asked_for_longest_ago_goes_first():
    made = []
    recent = Recent(2)

    def make(keys):
        made.extend(keys)
        return list(keys)

    for key in ("a", "b", "a", "c", "a", "b"):
        recent.of([key], make)

    assert made == ["a", "b", "c", "b"]
    assert len(recent) == 2


def test_more_at_once_than_are_kept_are_all_answered():
    recent = Recent(1)

    assert recent.of(["a", "b", "c"], lambda keys: keys) == ["a", "b", "c"]
    assert len(recent) == 1


def test_keeping_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Recent(0)
