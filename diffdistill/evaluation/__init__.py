"""Quality: the metrics of checkpoints, after different numbers of steps, and over seeds."""
