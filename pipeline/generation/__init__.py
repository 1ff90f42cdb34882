"""Which images are asked for, making them, and what already exists."""
