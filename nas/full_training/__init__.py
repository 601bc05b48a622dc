"""Training a network in full: recipes, the engine with its checkpoints, and several ranks."""
