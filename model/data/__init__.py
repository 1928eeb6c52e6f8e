"""Image, phrase and where the phrase lies: one interface over every source of such examples."""
