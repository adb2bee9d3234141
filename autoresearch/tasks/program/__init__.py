"""A program scored by a hidden evaluator: each in a sandbox, plain data between them, the lab's clock."""
