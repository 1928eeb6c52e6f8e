"""Phrases found again in an amended report: by example, and by property over edits of every kind."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nlp.phrases import Assertion, Concept, Phrase, Section
from plugin.anchors import CONTEXT, Quote, context_of, reanchor, tracking_uids
from plugin.values import Report, ReportRef, ReportStatus, StudyRef

STUDY = StudyRef("1.2.3")
SENTENCES = ("Left effusion", "No pneumothorax", "Mild edema", "Nodule", "Stable since the last film")


def phrases_of(text: str) -> tuple[Phrase, ...]:
    """Every sentence of *text* as a phrase."""
    found, at = [], 0
    for sentence in text.split(". "):
        words = sentence.rstrip(".")
        if words:
            span = {"start": at, "end": at + len(words), "start_utf16": at, "end_utf16": at + len(words)}
            found.append(
                Phrase(
                    words,
                    **span,
                    finding=Concept("x"),
                    assertion=Assertion.AFFIRMED,
                    section=Section.FINDINGS,
                    groundable=True,
                )
            )
        at += len(sentence) + 2
    return tuple(found)


def report_of(text: str) -> Report:
    return Report(ReportRef("r", "1"), ReportStatus.FINAL, text or " .", "file")


class Told:
    """A report as its versions come in; what is remembered is what the archive and evidence.json hold."""

    def __init__(self, *, contexts: bool = True) -> None:
        self.uids: tuple[str, ...] = ()
        self._contexts: dict[str, tuple[str, str]] = {}
        self._remembers = contexts

    def amend(self, text: str) -> tuple[str, ...]:
        phrases = phrases_of(text)
        contexts = self._contexts if self._remembers else {}
        self.uids = tracking_uids(STUDY, report_of(text), phrases, before=self.uids, contexts=contexts)
        spans = (context_of(text, phrase.start, phrase.end) for phrase in phrases)
        self._contexts = dict(zip(self.uids, spans, strict=True))
        return self.uids


def test_the_context_is_cut_at_the_ends_of_the_text() -> None:
    text = "a" * 40 + "phrase" + "b" * 5

    assert context_of(text, 40, 46) == ("a" * CONTEXT, "b" * 5)


def test_an_unchanged_report_keeps_every_identity() -> None:
    told = Told()

    first = told.amend("Left effusion. Nodule. Left effusion.")

    assert len(set(first)) == 3
    assert told.amend("Left effusion. Nodule. Left effusion.") == first


def test_equal_words_put_before_a_phrase_do_not_take_its_identity() -> None:
    told = Told()
    (effusion, nodule) = told.amend("Left effusion. Nodule.")

    (new, edema, *kept) = told.amend("Left effusion. Mild edema. Left effusion. Nodule.")

    assert kept == [effusion, nodule]
    assert not {new, edema} & set(kept)


def test_of_two_equal_phrases_the_one_that_stays_keeps_its_identity() -> None:
    told = Told()
    (_, _, edema, second) = told.amend("Left effusion. Nodule. Mild edema. Left effusion.")

    assert told.amend("Mild edema. Left effusion.") == (edema, second)


def test_a_third_equal_phrase_is_still_known_when_the_others_went() -> None:
    told = Told(contexts=False)
    uids = told.amend("Nodule. Nodule. Mild edema. Nodule.")

    (edema, third) = told.amend("Mild edema. Nodule.")

    assert (edema, third) == uids[2:]
    assert told.amend("Mild edema. Nodule.") == uids[2:]


def test_a_phrase_that_moved_keeps_its_identity() -> None:
    told = Told()
    (effusion, nodule, edema) = told.amend("Left effusion. Nodule. Mild edema.")

    assert told.amend("Nodule. Mild edema. Left effusion.") == (nodule, edema, effusion)


def test_a_changed_phrase_is_another_one_and_comes_back_as_itself() -> None:
    told = Told()
    (effusion, nodule) = told.amend("Left effusion. Nodule.")

    (changed, same) = told.amend("Large left effusion. Nodule.")

    assert same == nodule
    assert changed != effusion
    assert told.amend("Left effusion. Nodule.") == (effusion, nodule)


texts = st.lists(st.sampled_from(SENTENCES), max_size=9).map(lambda said: "".join(f"{each}. " for each in said).strip())


@given(st.lists(texts, min_size=1, max_size=4), st.booleans())
def test_through_any_amendments_identities_are_unique_and_stay_with_their_words(
    told: list[str], contexts: bool
) -> None:
    history = Told(contexts=contexts)
    words_of: dict[str, str] = {}
    before: Counter[str] = Counter()
    for text in told:
        known = set(history.uids)
        uids = history.amend(text)
        words = [phrase.text for phrase in phrases_of(text)]
        assert len(set(uids)) == len(uids)
        for uid, said in zip(uids, words, strict=True):
            assert words_of.setdefault(uid, said) == said
        kept = Counter(said for uid, said in zip(uids, words, strict=True) if uid in known)
        assert kept == before & Counter(words)  # as many as can keep theirs do
        assert history.amend(text) == uids
        before = Counter(words)


quotes = st.builds(Quote, st.sampled_from("ab"), st.text("xy", max_size=3), st.text("xy", max_size=3))


@given(st.lists(quotes, max_size=7), st.lists(quotes, max_size=7))
def test_joining_is_one_to_one_on_equal_words_as_many_as_both_have(old: list[Quote], new: list[Quote]) -> None:
    joined = reanchor(old, new)

    assert len(set(joined.values())) == len(joined)
    assert all(old[at_old].exact == new[at_new].exact for at_new, at_old in joined.items())
    both = Counter(each.exact for each in old) & Counter(each.exact for each in new)
    assert len(joined) == both.total()


@given(st.lists(quotes, max_size=9))
def test_nothing_changed_joins_each_to_itself(same: list[Quote]) -> None:
    assert reanchor(same, same) == {at: at for at in range(len(same))}


@given(st.lists(quotes, max_size=6), st.data())
def test_phrases_put_in_or_taken_out_disturb_no_order_of_the_others(old: list[Quote], data: st.DataObject) -> None:
    new = list(old)
    for _ in range(data.draw(st.integers(0, 3))):
        new.insert(data.draw(st.integers(0, len(new))), Quote(data.draw(st.sampled_from("cd"))))
    out = {at for at in range(len(new)) if data.draw(st.booleans())}
    left = [each for at, each in enumerate(new) if at not in out]

    joined = reanchor(old, left)

    olds = [joined[at] for at in sorted(joined)]
    assert olds == sorted(olds)
