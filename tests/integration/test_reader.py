"""What the report reader finds, where, and what it takes it to mean. Every sentence here was written for this test."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp.phrases import Assertion, Change, Laterality, Phrase, Section, Severity
from nlp.reader import READER_VERSION, find_phrases, read_report

AFFIRMED, PROBABLE, POSSIBLE = Assertion.AFFIRMED, Assertion.PROBABLE, Assertion.POSSIBLE
NEGATED, UNREPORTED = Assertion.NEGATED, Assertion.NOT_REPORTED


def claims(text: str) -> list[tuple[str, Assertion]]:
    return [(phrase.text, phrase.assertion) for phrase in find_phrases(text)]


def only(text: str) -> Phrase:
    (phrase,) = find_phrases(text)
    return phrase


def test_every_finding_is_one_phrase_with_its_modifiers() -> None:
    text = "FINDINGS: Multiple bilateral pulmonary nodules. No pleural effusion or pneumothorax."

    nodules, effusion, pneumothorax = find_phrases(text)

    assert nodules.text == "Multiple bilateral pulmonary nodules"
    assert nodules.laterality is Laterality.BILATERAL
    assert nodules.groundable
    assert (effusion.assertion, pneumothorax.assertion) == (NEGATED, NEGATED)
    assert (effusion.groundable, pneumothorax.groundable) == (False, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No effusion, edema or focal infiltrate.", [NEGATED] * 3),
        ("No acute, displaced rib fracture is seen.", [NEGATED]),
        ("No effusion but there is a nodule.", [NEGATED, AFFIRMED]),
        ("No acute process apart from a small effusion.", [AFFIRMED]),
        ("No pneumothorax, heart size is enlarged.", [NEGATED, AFFIRMED]),
        ("No effusion, stable cardiomegaly.", [NEGATED, AFFIRMED]),
        ("Neither effusion nor pneumothorax is seen.", [NEGATED] * 2),
        ("Effusion and pneumothorax are not seen.", [NEGATED] * 2),
        ("Cardiomegaly is present and effusion is not seen.", [AFFIRMED, NEGATED]),
        ("The heart is not enlarged.", [NEGATED]),
        ("Pneumonia is unlikely.", [NEGATED]),
        ("-ve for pneumothorax", [NEGATED]),
        ("Pneumothorax: none.", [NEGATED]),
        ("Pneumonia cannot be excluded.", [POSSIBLE]),
        ("?pneumonia", [POSSIBLE]),
        ("Findings are concerning for pneumonia.", [POSSIBLE]),
        ("Findings are consistent with pulmonary edema.", [PROBABLE]),
        ("Likely atelectasis.", [PROBABLE]),
        ("No significant change in the effusion.", [AFFIRMED]),
        ("Evaluate for pneumothorax.", [UNREPORTED]),
        ("A small effusion may be missed on this view.", [UNREPORTED]),
        ("The effusion has resolved.", [NEGATED]),
        ("The left chest tube has been removed.", [NEGATED]),
        ("INDICATION: effusion\nFINDINGS: effusion", [UNREPORTED, AFFIRMED]),
        ("COMPARISON: film with effusion.\nFINDINGS: Clear lungs.", [UNREPORTED]),
        ("TECHNIQUE: catheter\nIMPRESSION: nodule", [UNREPORTED, AFFIRMED]),
    ],
)
def test_cues_reach_as_far_as_their_clause(text: str, expected: list[Assertion]) -> None:
    assert [assertion for _, assertion in claims(text)] == expected


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("There is a large right pleural effusion.", "large right pleural effusion"),
        ("Patchy opacity in the left lower lobe is noted.", "Patchy opacity in the left lower lobe"),
        ("Mild surrounding airspace disease.", "Mild surrounding airspace disease"),
        ("Right XXXX effusion.", "Right XXXX effusion"),
        ("XXXX atelectasis.", "atelectasis"),
        ("The heart is mildly enlarged.", "heart is mildly enlarged"),
        ("Blunting of the left costophrenic angle.", "Blunting of the left costophrenic angle"),
        ("Moderate-sized hiatal hernia.", "Moderate-sized hiatal hernia"),
        ("A 1.2 x 0.8 cm nodule in the lingula.", "1.2 x 0.8 cm nodule in the lingula"),
    ],
)
def test_a_phrase_is_the_finding_with_its_own_modifiers_and_nothing_more(text: str, span: str) -> None:
    assert only(text).text == span


@pytest.mark.parametrize(
    ("text", "side", "sites"),
    [
        ("Opacity is seen in the left lower lobe.", Laterality.LEFT, ("lower lobe",)),
        ("In the right upper lobe there is a nodule.", Laterality.RIGHT, ("upper lobe",)),
        ("RML consolidation.", Laterality.RIGHT, ("middle lobe",)),
        ("Opacities in the right upper and left lower lobes.", Laterality.BILATERAL, ("upper lobe", "lower lobe")),
        ("Atelectasis in the lung bases.", Laterality.BILATERAL, ("lung base",)),
        ("Small effusions, right greater than left.", Laterality.BILATERAL, ("pleura",)),
        ("Pacemaker with leads to the right atrium.", None, ("heart",)),
        ("Levoscoliosis.", Laterality.LEFT, ("thoracic spine",)),
    ],
)
def test_sides_and_sites_are_read_wherever_the_clause_names_them(
    text: str, side: Laterality | None, sites: tuple[str, ...]
) -> None:
    phrase = find_phrases(text)[0]

    assert phrase.laterality is side
    assert tuple(site.name for site in phrase.sites) == sites


def test_a_second_conjunct_inherits_the_place_of_the_first() -> None:
    effusion, atelectasis = find_phrases("Small left effusion and atelectasis.")

    assert effusion.laterality is atelectasis.laterality is Laterality.LEFT


def test_the_side_of_a_clear_lung_is_not_given_to_another_finding() -> None:
    assert only("The left lung is clear, small effusion.").laterality is None


def test_an_explanation_shares_the_region_of_what_it_explains() -> None:
    opacity, pneumonia, atelectasis = find_phrases("Right basilar opacity may represent pneumonia or atelectasis.")

    assert pneumonia.shares_region_with == atelectasis.shares_region_with == (opacity.start, opacity.end)
    assert pneumonia.laterality is Laterality.RIGHT


def test_what_the_impression_repeats_is_grounded_once() -> None:
    reading = read_report(
        "FINDINGS: Small left pleural effusion. Cardiomegaly.\nIMPRESSION: 1. Left effusion.\n2. No edema."
    )
    first, _, repeated, _ = reading.phrases

    assert repeated.shares_region_with == (first.start, first.end)
    assert repeated.section is Section.IMPRESSION
    assert reading.contradictions == ()


def test_a_repeat_with_two_possible_origins_is_not_linked() -> None:
    phrases = find_phrases("FINDINGS: Right effusion. Left effusion.\nIMPRESSION: Effusion.")

    assert phrases[2].shares_region_with is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("FINDINGS: No pneumothorax.\nIMPRESSION: Small left pneumothorax.", "claim"),
        ("FINDINGS: Left lower lobe nodule.\nIMPRESSION: Right lower lobe nodule.", "side"),
    ],
)
def test_contradictions_are_reported_without_quoting_the_report(text: str, kind: str) -> None:
    reading = read_report(text)

    assert [dispute.kind for dispute in reading.contradictions] == [kind]
    assert "neumothorax" not in reading.notes[0]


def test_the_denial_of_a_large_effusion_does_not_contradict_a_small_one() -> None:
    assert read_report("FINDINGS: No large effusion.\nIMPRESSION: Small effusion.").contradictions == ()


def test_severity_change_and_size_belong_to_their_finding() -> None:
    effusion, nodule = find_phrases(
        "Moderate left effusion has increased. Nodule in the apex measures 12 mm, previously 9 mm."
    )

    assert (effusion.severity, effusion.degree, effusion.change) == (Severity.MODERATE, "moderate", Change.INCREASED)
    assert [(size.value, size.unit) for size in nodule.measurements] == [(12.0, "mm")]


def test_a_distance_is_not_a_size() -> None:
    assert find_phrases("Endotracheal tube tip is 4 cm above the carina.")[0].measurements == ()


def test_these_refers_to_the_finding_of_the_sentence_before() -> None:
    phrases = find_phrases("Streaky opacities in the left base. The appearance suggests atelectasis.")

    assert phrases[1].laterality is Laterality.LEFT


def test_an_abbreviation_that_the_report_defines_is_read_later() -> None:
    phrases = find_phrases("Right lung consolidation (RLC) is seen. No new RLC.")

    assert [(phrase.finding.name, phrase.assertion) for phrase in phrases] == [
        ("consolidation", AFFIRMED),
        ("consolidation", NEGATED),
    ]


@pytest.mark.parametrize("word", ["effuson", "efusion", "effusionn", "effsuion"])
def test_a_misspelt_finding_is_read_and_quoted_as_written(word: str) -> None:
    phrase = only(f"Small left {word}.")

    assert phrase.finding.name == "pleural effusion"
    assert phrase.text == f"Small left {word}"


@pytest.mark.parametrize(
    "text", ["The patient has confusion.", "Drug infusion.", "Syncope and collapse.", "Joint effusion."]
)
def test_other_words_and_other_organs_are_no_chest_findings(text: str) -> None:
    assert find_phrases(text) == ()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Kein Pneumothorax. Kein Pleuraerguss.", "de"),
        ("Pas de pneumothorax ni d'épanchement pleural.", "fr"),
        ("Sin neumotórax ni derrame pleural.", "es"),
        ("Нет пневмоторакса", "und"),
    ],
)
def test_a_text_that_is_not_english_is_not_read(text: str, language: str) -> None:
    reading = read_report(text)

    assert reading.phrases == ()
    assert reading.language == language
    assert reading.notes == ("the text is not English; nothing was read",)


@pytest.mark.parametrize(
    "text",
    [
        "FINDINGS: NO EFFUSION. LEFT APICAL PNEUMOTHORAX.",
        "Findings: No effusion.\r\nLeft apical pneumothorax.",
        "No\u00a0effusion.<BR>Left apical\u00a0pneumothorax.",
        "no effusion.left apical pneumothorax",
        "1. No effusion\n2. Left apical pneumothorax",
        "No effusion Left apical pneumothorax",
        "<NAME> has no effusion. \U0001f600 Left apical pneumothorax [**Name 3**].",
        "Dr. ___ saw no effusion; left apical pneumothorax.",
    ],
)
def test_layout_changes_nothing(text: str) -> None:
    effusion, pneumothorax = find_phrases(text)

    assert effusion.assertion is NEGATED
    assert (pneumothorax.assertion, pneumothorax.laterality) == (AFFIRMED, Laterality.LEFT)
    for phrase in (effusion, pneumothorax):
        utf16 = text.encode("utf-16-le")[2 * phrase.start_utf16 : 2 * phrase.end_utf16].decode("utf-16-le")
        assert text[phrase.start : phrase.end] == phrase.text == utf16


def test_a_fracture_of_the_hip_lies_outside_the_chest() -> None:
    assert only("Fracture of the left hip.").not_groundable_reason == "it lies outside the chest"


PIECES = st.sampled_from((
    "No ", "effusion", " nodule", "left ", "heart ", " enlarged", ", ", ". ", "\r\n", "\u00a0", "<BR>", "\U0001f600",
    "e\u0301", " and ", "XXXX ", "(", ")", "[**", "**]", "3 cm ", "FINDINGS: ", "IMPRESSION:", " may represent ",
    "pneumonia", "\ud800", "İ",
))  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=200)))
def test_offsets_are_exact_on_any_text(text: str) -> None:
    phrases = find_phrases(text)

    assert phrases == find_phrases(text)
    assert list(phrases) == sorted(phrases, key=lambda phrase: phrase.start)
    for phrase in phrases:
        assert text[phrase.start : phrase.end] == phrase.text
        assert phrase.start_utf16 == len(text[: phrase.start].encode("utf-16-le", "surrogatepass")) // 2


@pytest.mark.parametrize(
    "text", ["," * 10_000, "(" * 3_000 + ")" * 3_000, "no " * 3_000 + "effusion", "<" * 5_000, "heart " * 2_000]
)
@pytest.mark.timeout(60)
def test_hostile_text_ends_in_bounded_time(text: str) -> None:
    assert len(find_phrases(text)) <= 1


def test_no_word_of_the_report_is_logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    with caplog.at_level(logging.DEBUG):
        find_phrases("Unmistakable quokka nodule.")
    logging.getLogger().removeHandler(handler)

    written = stream.getvalue() + caplog.text + "".join(capsys.readouterr())
    assert "quokka" not in written.lower()


def test_the_version_names_the_lexicon() -> None:
    assert len(READER_VERSION.rpartition("+")[2]) == 16
