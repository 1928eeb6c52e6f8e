"""Images, reports and results without whom they are about, for research: PS3.15 annex E, and cleaned text."""
