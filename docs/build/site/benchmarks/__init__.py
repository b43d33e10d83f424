"""Side by side with other systems, and the scripts that make the models this needs."""
