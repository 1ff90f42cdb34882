"""The drawn world behind the sandbox: canvas, person, occupations, and the reading of prompts."""
