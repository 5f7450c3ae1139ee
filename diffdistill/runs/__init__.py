"""Training runs: one, several stages, and what they need first; and opening what a run has left."""
