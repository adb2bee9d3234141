"""The loop: propose, try, decide, record."""
