"""What losses are worth: joint tables, intervals with confidence, secret bits."""
