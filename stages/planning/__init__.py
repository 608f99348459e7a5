"""What runs would cost, whether they fit, and what their comparison could find: before they run."""
