"""What one run is, and the cohort engine that trains many of them as one program."""
