"""The files of a study, and the signatures that name them."""
