"""Getting facts from a listener. Judges nothing."""
