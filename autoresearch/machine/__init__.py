"""What this machine has: processors, memory, GPUs, and the attention kernel that is fastest on it."""
