"""Fixtures for tests of the user's own. Imports nothing heavy: each fixture imports what it needs."""

from __future__ import annotations
