"""How radiologists name what the twin shows: many wordings of one finding, all written for this project."""

from __future__ import annotations

import numpy as np

from model.twin.findings import TwinFinding

_LUNG_NOUNS = {
    "consolidation": ("consolidation", "airspace consolidation", "focal consolidation", "dense consolidation"),
    "opacity": (
        "opacity",
        "hazy opacity",
        "patchy opacity",
        "airspace opacity",
        "ill-defined opacity",
        "opacification",
    ),
    "atelectasis": ("atelectasis", "linear atelectasis", "plate-like atelectasis", "subsegmental atelectasis"),
    "pulmonary nodule": ("nodule", "pulmonary nodule", "lung nodule", "nodular opacity"),
    "mass": ("mass", "lung mass", "pulmonary mass", "rounded mass"),
}
_ZONES = {
    "upper lobe": ("{side}upper lobe", "{side}upper lung", "{side}upper zone", "{side}apical region"),
    "mid lung": ("{side}mid lung", "{side}mid lung zone", "{side}mid zone", "{side}perihilar region"),
    "lower lobe": ("{side}lower lobe", "{side}lung base", "{side}lower lung", "{side}lower zone"),
}
_FIXED = {
    "cardiomegaly": (
        "cardiomegaly",
        "enlarged heart",
        "enlarged cardiac silhouette",
        "cardiac enlargement",
        "enlargement of the cardiac silhouette",
    ),
    "pulmonary edema": (
        "pulmonary edema",
        "interstitial edema",
        "perihilar pulmonary edema",
        "pulmonary vascular congestion with edema",
        "bilateral pulmonary edema",
    ),
    "endotracheal tube": ("endotracheal tube", "ET tube", "endotracheal tube above the carina"),
    "pacemaker": ("pacemaker", "dual-lead pacemaker", "{side}-sided pacemaker", "{side} chest wall pacemaker"),
    "central venous line": (
        "central venous line",
        "{side} central venous catheter",
        "{side} internal jugular central venous line",
        "central line",
    ),
}
_DEGREES = {"small": ("small", "trace", "minimal"), "moderate": ("moderate", "medium-sized"), "large": ("large",)}


def phrases_for(finding: TwinFinding, rng: np.random.Generator) -> str:
    """One wording of a finding phrase, in lower case; now and then without its side or site, as reports are."""
    said = rng.random()
    side = finding.side if finding.side and said < 0.88 else ""
    if finding.concept in _FIXED:
        form = _pick(_FIXED[finding.concept], rng)
        return form.format(side=side or finding.side or "") if "{side}" in form else form
    if finding.concept == "pleural effusion":
        return _effusion(finding, side, rng)
    if finding.concept == "pneumothorax":
        place = _pick(("", "", "apical "), rng)
        return " ".join(f"{_degree(finding, rng)} {side} {place}pneumothorax".split())
    return _in_lung(finding, side, rng)


def absent_phrase(concept: str, rng: np.random.Generator, *, side: str | None = None, site: str | None = None) -> str:
    """A phrase for a finding that is not in the picture."""
    blank = TwinFinding(concept, side, (site,) if site else (), np.zeros((1, 1), bool))
    return phrases_for(blank, rng)


def _effusion(finding: TwinFinding, side: str, rng: np.random.Generator) -> str:
    plural = "s" if finding.side == "bilateral" else ""
    forms = [f"{_degree(finding, rng)} {side} pleural effusion{plural}", f"{side} effusion{plural}"]
    if side in ("left", "right"):
        forms += [f"{side}-sided pleural effusion", f"{_degree(finding, rng)} effusion on the {side}"]
        if finding.severity in ("", "small"):
            forms.append(f"blunting of the {side} costophrenic angle")
    return " ".join(_pick(tuple(forms), rng).split())


def _in_lung(finding: TwinFinding, side: str, rng: np.random.Generator) -> str:
    many = finding.count > 1
    noun = _pick(_LUNG_NOUNS[finding.concept], rng)
    if many or (side == "bilateral" and finding.concept in ("opacity", "pulmonary nodule")):
        noun = noun.replace("opacity", "opacities") if "opacity" in noun else f"{noun}s" if "nodule" in noun else noun
    amount = "multiple " if many and finding.concept == "pulmonary nodule" else ""
    size = f"{_size(finding.size_mm, rng)} " if finding.size_mm and rng.random() < 0.4 else ""
    if not finding.sites or rng.random() < 0.2:
        tail = f" in the {side} lung" if side in ("left", "right") and rng.random() < 0.5 else ""
        return " ".join(f"{amount}{size}{'' if tail else side} {noun}{tail}".split())
    zone = _pick(_ZONES[finding.sites[0]], rng)
    where = zone.format(side=f"{side} " if side else "").strip()
    if side == "bilateral":
        where = f"{where}s"
    if rng.random() < 0.5:
        return " ".join(f"{amount}{size}{noun} in the {where}".split())
    if finding.sites[0] == "lower lobe" and side and rng.random() < 0.4:
        where = f"{'bibasilar' if side == 'bilateral' else f'{side} basilar'}"
    return " ".join(f"{amount}{size}{where} {noun}".split())


def _size(size_mm: float, rng: np.random.Generator) -> str:
    return f"{size_mm:.0f} mm" if rng.random() < 0.5 else f"{size_mm / 10:.1f} cm"


def _degree(finding: TwinFinding, rng: np.random.Generator) -> str:
    return _pick(_DEGREES[finding.severity], rng) if finding.severity and rng.random() < 0.6 else ""


def _pick(forms: tuple[str, ...], rng: np.random.Generator) -> str:
    return forms[int(rng.integers(len(forms)))]
