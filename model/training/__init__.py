"""Training: one configuration file in, weights with their manifest out; the same again after any interruption."""
