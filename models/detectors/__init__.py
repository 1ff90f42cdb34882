"""What finds the people of an image."""
