"""What a store promises, looked at (`invariants.py`) and mended (`mend.py`); `eureka doctor` is the command."""
