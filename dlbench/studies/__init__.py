"""Whole studies: design them, run them, grow them, replay them."""
