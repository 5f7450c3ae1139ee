"""Choosing a student for a budget: scores of layers, candidates, and short trainings of the best."""
