"""The networks that raygrid trains."""
