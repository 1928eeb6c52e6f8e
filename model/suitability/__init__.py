"""Whether an image can be grounded: a frontal chest, upright, not mirrored or inverted, like those learnt from."""
