"""Changes the tables of the case store from version to version."""
