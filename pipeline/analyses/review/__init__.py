"""A sample of images, labelled by people."""
