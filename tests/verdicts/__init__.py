"""Keeps what the code judges as a file, and compares two such files: before a change and after it."""
