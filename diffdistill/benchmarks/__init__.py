"""Speed and memory of models and training steps."""
