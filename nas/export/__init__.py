"""The bundle a network leaves the study in."""
