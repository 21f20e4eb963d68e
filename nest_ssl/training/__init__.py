"""The training loop: options, optimiser, schedules, ranks, checkpoints, logs."""
