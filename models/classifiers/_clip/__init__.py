"""What the classifiers over a CLIP are made of: configs of model folders held to known keys, and the two formats that folders have."""
