"""Images: where they come from, their checks, and their three splits."""
