"""A program scored by a hidden evaluator: both in sandboxes of their own, plain data between them, the lab's clock."""
