"""The options of a search, and what they stand for: images, space, objective, evaluator, executor."""
