"""What a prediction costs, part by part: the parts of `python benchmarks/serving.py`, which says what each is."""
