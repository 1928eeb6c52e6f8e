"""From sentences with claims to one text in which every claim's place is known."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Claim:
    """A finding phrase to be written: its words and the truth about it; see :class:`model.twin.report.TwinPhrase`.

    *explains*: the words of the finding that a cause ("pneumonia") is given for, or "".
    """

    text: str
    concept: str
    assertion: str
    sites: tuple[str, ...] = ()
    finding: int | None = None
    explains: str = ""


Sentence = tuple[str | Claim, ...]


@dataclass(slots=True)
class Paper:
    """The sections of a report in order; a section without a title is a bare paragraph."""

    sections: list[tuple[str, tuple[Sentence, ...], bool]] = field(default_factory=list)

    def section(self, title: str, sentences: tuple[Sentence, ...], *, numbered: bool = False) -> None:
        """Add a section."""
        self.sections.append((title, sentences, numbered))


def written(paper: Paper) -> tuple[str, tuple[tuple[int, Claim], ...]]:
    """The text, and each claim with its start in code points."""
    text, placed = "", []
    for title, sentences, numbered in paper.sections:
        text += ("\n\n" if text else "") + (f"{title}:" if title else "")
        for number, sentence in enumerate(sentences, start=1):
            text += f"\n{number}. " if numbered else " " if text and not text.endswith("\n") else ""
            start = len(text)
            for part in sentence:
                if isinstance(part, Claim):
                    placed.append((len(text), part))
                text += part.text if isinstance(part, Claim) else part
            text = text[:start] + text[start : start + 1].upper() + text[start + 1 :]
    return f"{text}\n", tuple(placed)
