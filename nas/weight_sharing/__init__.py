"""Weight sharing: one network whose slices are all networks of a space, trained, measured and searched in."""
