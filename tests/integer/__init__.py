"""Integer networks end to end."""
