"""One YAML per way to run, with the prompt sets, questions, references and calibrations that they name."""
