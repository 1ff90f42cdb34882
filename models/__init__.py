"""What turns text into images and images into scores. Knows nothing of runs, files or reports."""
