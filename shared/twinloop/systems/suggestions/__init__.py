"""Which upcoming real-world events somebody may go to, from where they are, at a moment."""
