"""The state folder of a run directory: requests, status, stored files."""
