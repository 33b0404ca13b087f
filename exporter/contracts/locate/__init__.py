"""Where in the model something happens first."""
