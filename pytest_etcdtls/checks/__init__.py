"""The checks, one module per subject. Pure functions of observations: no I/O, no clock, no pytest."""
