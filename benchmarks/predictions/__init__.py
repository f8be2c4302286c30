"""What a prediction costs, part by part: the parts of `python -m benchmarks.serving`, which says what each is."""
