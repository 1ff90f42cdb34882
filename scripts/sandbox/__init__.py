"""Steps of `scripts/train_sandbox.py`."""
