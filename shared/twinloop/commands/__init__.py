"""What `twinloop` can be told to do, one module per subject."""
