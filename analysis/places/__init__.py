"""Where a store lies: a folder or a bucket, behind one protocol (`place.py`)."""
