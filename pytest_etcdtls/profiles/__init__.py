"""Profiles and waivers: the limits that an operator sets, and the faults that the operator accepts."""
