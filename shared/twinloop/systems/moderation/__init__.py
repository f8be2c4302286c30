"""Which texts have which labels, and what is done about them."""
