"""Which images are asked for, making them, and what stands already."""
