"""Many runs at once: boards with ranks, pairs that can be told apart, and what each prompt shows in each run."""
