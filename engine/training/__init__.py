"""Training runs: set-up, steps, evaluation, checkpoints and resuming."""
