"""Raw data in: every row typed and in the lake by date, or in quarantine with the reason, the file and the line."""
