"""Profiles and waivers: what an operator demands of the checks, and accepts."""
