"""The report of a run, for the terminal and as JSON. It does not depend on pytest."""
