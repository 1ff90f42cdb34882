"""What lies on disk: nothing else reads or writes it."""
