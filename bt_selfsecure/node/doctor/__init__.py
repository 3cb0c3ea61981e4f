"""What users' machines really fail on, looked at one by one; each fault is named with its remedy."""
