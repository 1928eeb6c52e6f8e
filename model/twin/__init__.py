"""The synthetic twin: chest radiographs with reports and truth, from a seed. Projection physics, no patient data."""
