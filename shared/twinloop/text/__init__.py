"""Text as arrays: words, an inverted index, vectors, and what people mistype. Built by jobs, read by serving."""
