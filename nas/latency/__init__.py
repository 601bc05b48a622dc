"""How long a network takes on a device: measured, stored with its origin, and predicted from blocks."""
