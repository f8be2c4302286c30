"""What a user may want to watch next."""
