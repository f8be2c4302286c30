"""What is done with predictions once it is known what came of them."""
