"""How likely a user clicks an ad, and what showing it is worth."""
