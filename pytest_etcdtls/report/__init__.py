"""Showing results: terminal text and files. Finds out nothing by itself."""
