"""What backends for image servers on one's own machine share."""
