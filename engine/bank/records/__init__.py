"""Records of (action, text, source) by the million → the descriptions of a bank."""
