"""The suite inside pytest."""
