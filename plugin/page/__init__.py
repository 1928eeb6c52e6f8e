"""The evidence as people and programs read it: evidence.json and the self-contained page."""
