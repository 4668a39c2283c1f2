"""The suite inside pytest: one item per listener and check, no fixture and no test file.

Loaded only when the command line asks for it.
"""
