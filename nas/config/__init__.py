"""The options of a search, and the objects made from them: images, space, objective, evaluator, executor."""
