"""The conformance suite as part of a pytest session."""
